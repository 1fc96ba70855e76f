"""Definitions of Dagster's own history."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.observability.runs import assets, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[assets.run_history], jobs=[schedules.run_retention], schedules=[schedules.daily]
    )
