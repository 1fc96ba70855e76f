"""When backups are taken."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.assets import postgres_full

postgres_full_backup = dg.define_asset_job(
    "postgres_full_backup",
    selection=dg.AssetSelection.assets(postgres_full),
    owners=[face.DATA_PLATFORM],
    description="Takes a full backup of PostgreSQL, and checks that the repository lists it.",
    tags={face.COMMAND: "bilten backup create postgres", face.HELP: "bilten backup list"},
)

postgres_full_daily = dg.ScheduleDefinition(
    name="postgres_full_backup_daily",
    job=postgres_full_backup,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="Every night, before the restore drill.",
)
