"""Definitions of the backups domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.backups import assets, checks, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[assets.postgres_full, assets.postgres_incremental],
        asset_checks=[checks.full_listed, checks.incremental_listed],
        jobs=[schedules.postgres_full_backup, schedules.postgres_incremental_backup],
        schedules=schedules.SCHEDULES,
    )
