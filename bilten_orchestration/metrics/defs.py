"""Definitions of the metrics domain, from dbt's manifest as it was prepared."""

from __future__ import annotations

import logging

import dagster as dg

from bilten_orchestration.metrics import assets, checks, manifest, schedules
from bilten_orchestration.settings import Settings

logger = logging.getLogger(__name__)


def definitions(settings: Settings) -> dg.Definitions:
    """Raises Refused when the manifest was never prepared; an old one loads, with a warning."""
    path, current = manifest.find(settings)
    if not current:
        logger.warning("the dbt project has changed since its manifest was prepared: bilten up prepares it")
    parsed = manifest.read(path)
    marts = manifest.marts(parsed)
    daily, whole = assets.build_assets(settings, parsed)
    freshness = checks.freshness_checks(marts)
    jobs = schedules.build_jobs(daily, whole, [freshness])
    return dg.Definitions(
        assets=[assets.mart_days(marts), daily, whole],
        asset_checks=[freshness, checks.published_days_equal_postgres, checks.no_day_is_refused],
        jobs=[*jobs],
        schedules=schedules.build_schedules(jobs),
        sensors=[schedules.late_days_sensor(jobs, marts)],
    )
