"""Definitions of the drills domain. Where search is off, nothing drills it or judges its drills."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.drills import assets, checks, plan, schedules
from bilten_orchestration.settings import Settings


def definitions(settings: Settings) -> dg.Definitions:
    stores = dict.fromkeys(way.store for way in plan.WAYS)
    days = assets.partitions(settings)
    drills = {store: assets.build_asset(store, days) for store in stores}
    held = plan.drilled(settings)
    promises = [checks.build_checks(store) for store in held]
    jobs = {store: schedules.build_job(store, drill) for store, drill in drills.items()}
    hourly = schedules.build_promises(promises)
    return dg.Definitions(
        assets=[*drills.values()],
        asset_checks=promises,
        jobs=[*jobs.values(), hourly],
        schedules=[
            *(schedules.build_schedule(store, job) for store, job in jobs.items() if store in held),
            schedules.build_promises_schedule(hourly),
        ],
    )
