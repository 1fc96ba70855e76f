"""When Dagster's history is kept to its days."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.observability.runs.assets import COMMAND, run_history

run_retention = dg.define_asset_job(
    "run_retention",
    selection=dg.AssetSelection.assets(run_history),
    owners=[face.DATA_PLATFORM],
    description="Removes runs, events and logs whose days are over; `bilten runs prune` previews it.",
    tags={face.COMMAND: COMMAND, face.HELP: "bilten runs prune"},
)

daily = dg.ScheduleDefinition(
    name="run_retention_daily",
    job=run_retention,
    cron_schedule="20 6 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="After the night's backups and their retention, which say which runs are still named.",
)
