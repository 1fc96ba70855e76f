"""Definitions of the backups domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.backups import assets, checks, schedules, wal_assets


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[*assets.ASSETS.values(), wal_assets.postgres_wal, assets.copies, assets.retention],
        asset_checks=[*checks.LISTED.values(), checks.copy_complete, checks.nothing_expired_is_left],
        jobs=[*schedules.JOBS, wal_assets.postgres_wal_audit, schedules.COPIES_JOB, schedules.RETENTION_JOB],
        schedules=[
            *schedules.SCHEDULES,
            wal_assets.postgres_wal_audit_schedule,
            schedules.COPIES_SCHEDULE,
            schedules.RETENTION_SCHEDULE,
        ],
    )
