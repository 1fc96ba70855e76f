"""Definitions of the backups domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.backups import assets, checks, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[assets.postgres_full],
        asset_checks=[checks.listed_and_recent],
        jobs=[schedules.postgres_full_backup],
        schedules=[schedules.postgres_full_daily],
    )
