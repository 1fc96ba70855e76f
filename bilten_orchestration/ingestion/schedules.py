"""When batches run."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import SYNCED

ingestion = dg.define_asset_job(
    "ingestion",
    selection=dg.AssetSelection.assets(*(spec.key for spec in SYNCED)) - dg.AssetSelection.all_asset_checks(),
    owners=[face.DATA_PLATFORM],
    description="One sync batch from PostgreSQL to ClickHouse.",
    tags={face.COMMAND: "bilten sync", face.HELP: "bilten status; bilten sync says what holds it up"},
)

every_15_minutes = dg.ScheduleDefinition(
    name="ingestion_every_15_minutes",
    job=ingestion,
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="Brings what has changed in PostgreSQL since the last batch.",
)
