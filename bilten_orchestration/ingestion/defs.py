"""Definitions of the ingestion domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.ingestion import assets, checks, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[*assets.OPERATIONAL, assets.CLICKS, assets.raw],
        asset_checks=[
            checks.sync_lag,
            checks.equal_to_postgres,
            checks.cells_are_whole,
            checks.nothing_from_the_future,
            checks.clicks_arrive,
        ],
        jobs=[schedules.ingestion, schedules.reconciliation],
        schedules=[schedules.every_15_minutes, schedules.reconciled],
    )
