"""When backups are taken."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.assets import ASSETS, COPY_COMMAND, PRUNE_COMMAND, copies, retention
from bilten_orchestration.backups.plan import PLANNED, Planned


def _job(planned: Planned) -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        planned.job,
        selection=dg.AssetSelection.assets(ASSETS[planned.store, planned.kind]),
        owners=[face.DATA_PLATFORM],
        description=f"Takes a {planned.kind} backup of {planned.store}, and checks that the repository lists"
        " it.",
        tags={face.COMMAND: planned.command, face.HELP: "bilten backup list"},
    )


def _schedule(planned: Planned, job: dg.UnresolvedAssetJobDefinition) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=job.name,
        job=job,
        cron_schedule=planned.cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        owners=[face.DATA_PLATFORM],
        description=planned.why_then,
    )


JOBS = [_job(planned) for planned in PLANNED]
SCHEDULES = [_schedule(planned, job) for planned, job in zip(PLANNED, JOBS, strict=True)]

COPIES_JOB = dg.define_asset_job(
    "backup_copies",
    selection=dg.AssetSelection.assets(copies),
    owners=[face.DATA_PLATFORM],
    description="Copies what the second bucket lacks, and checks that nothing waits for long.",
    tags={face.COMMAND: COPY_COMMAND, face.HELP: "bilten backup list"},
)
COPIES_SCHEDULE = dg.ScheduleDefinition(
    name="backup_copies_every_30_minutes",
    job=COPIES_JOB,
    cron_schedule="7,37 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="Beside the backups, which begin at full hours: losing the first bucket costs half an hour.",
)

RETENTION_JOB = dg.define_asset_job(
    "backup_retention",
    selection=dg.AssetSelection.assets(retention),
    owners=[face.DATA_PLATFORM],
    description="Removes from both buckets what retention no longer keeps, and says why in the repository.",
    tags={face.COMMAND: PRUNE_COMMAND, face.HELP: "bilten backup prune"},
)
RETENTION_SCHEDULE = dg.ScheduleDefinition(
    name="backup_retention_daily",
    job=RETENTION_JOB,
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="After the night's backups and drills, so that what they proved counts.",
)
