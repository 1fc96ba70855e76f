"""When months are made."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.partitions.assets import partitions

partition_maintenance = dg.define_asset_job(
    "partition_maintenance",
    selection=dg.AssetSelection.assets(partitions),
    owners=[face.DATA_PLATFORM],
    description="Makes partitions ahead, archives and drops old ones, and judges how every table stands.",
    tags={face.COMMAND: "bilten partitions apply", face.HELP: "bilten partitions plan"},
)

daily = dg.ScheduleDefinition(
    name="partition_maintenance_daily",
    job=partition_maintenance,
    cron_schedule="0 1 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="Every day, so that a failure has months to be noticed in.",
)
