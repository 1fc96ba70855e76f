"""Definitions of the backups domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.backups import assets, checks, schedules, wal_assets


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[*assets.ASSETS.values(), wal_assets.postgres_wal],
        asset_checks=list(checks.LISTED.values()),
        jobs=[*schedules.JOBS, wal_assets.postgres_wal_audit],
        schedules=[*schedules.SCHEDULES, wal_assets.postgres_wal_audit_schedule],
    )
