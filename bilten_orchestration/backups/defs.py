"""Definitions of the backups domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.backups import assets, checks, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[*assets.ASSETS.values(), assets.copies, assets.retention],
        asset_checks=[*checks.LISTED.values(), checks.copy_complete],
        jobs=[*schedules.JOBS, schedules.COPIES_JOB, schedules.RETENTION_JOB],
        schedules=[*schedules.SCHEDULES, schedules.COPIES_SCHEDULE, schedules.RETENTION_SCHEDULE],
    )
