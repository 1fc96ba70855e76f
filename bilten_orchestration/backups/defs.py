"""Definitions of the backups domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.backups import assets, checks, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=list(assets.ASSETS.values()),
        asset_checks=list(checks.LISTED.values()),
        jobs=schedules.JOBS,
        schedules=schedules.SCHEDULES,
    )
