"""When backups are taken."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.assets import ASSETS, COPY_COMMAND, PRUNE_COMMAND, copies, retention
from bilten_orchestration.backups.plan import PLANNED

JOBS = [
    face.job(
        planned.job,
        dg.AssetSelection.assets(ASSETS[planned.store, planned.kind]),
        f"Takes a {planned.kind} backup of {planned.store}, and checks that the repository lists it.",
        by_hand=planned.command,
        on_failure="bilten backup list",
    )
    for planned in PLANNED
]
SCHEDULES = [
    face.schedule(job.name, job, planned.cron, planned.why_then)
    for planned, job in zip(PLANNED, JOBS, strict=True)
]

COPIES_JOB = face.job(
    "backup_copies",
    dg.AssetSelection.assets(copies),
    "Copies what the second bucket lacks, and checks that nothing waits for long.",
    by_hand=COPY_COMMAND,
    on_failure="bilten backup list",
)
COPIES_SCHEDULE = face.schedule(
    "backup_copies_every_30_minutes",
    COPIES_JOB,
    "7,37 * * * *",
    "Beside the backups, which begin at full hours: losing the first bucket costs half an hour.",
)

RETENTION_JOB = face.job(
    "backup_retention",
    dg.AssetSelection.assets(retention),
    "Removes from both buckets what retention no longer keeps, and says why in the repository.",
    by_hand=PRUNE_COMMAND,
    on_failure="bilten backup prune",
)
RETENTION_SCHEDULE = face.schedule(
    "backup_retention_daily",
    RETENTION_JOB,
    "0 6 * * *",
    "After the night's backups and drills, so that what they proved counts.",
)
