"""Definitions of the search domain. Where search is off, nothing of it runs by itself."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.search import assets, checks, schedules
from bilten_orchestration.settings import Settings


def definitions(settings: Settings) -> dg.Definitions:
    enabled = settings.opensearch.enabled
    return dg.Definitions(
        assets=assets.ASSETS,
        asset_checks=[
            checks.search_lag,
            checks.serves_the_definition,
            checks.equals_the_mart,
            checks.nothing_left,
        ],
        jobs=schedules.JOBS,
        schedules=schedules.SCHEDULES if enabled else [],
        sensors=[schedules.definition_changed] if enabled else [],
    )
