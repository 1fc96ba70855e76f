"""Definitions of what the databases say about themselves."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.observability.queries import assets, checks, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[assets.advice, assets.platform_figures],
        asset_checks=[checks.tables_in_shape],
        jobs=[schedules.database_advice, schedules.key_figures, schedules.table_checks],
        schedules=[schedules.weekly, schedules.hourly, schedules.daily],
    )
