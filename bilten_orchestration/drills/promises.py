"""What is promised of recovery, and whether the attested drills keep it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.backups.plan import PLANNED
from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.drills import plan
from bilten_orchestration.drills.report import CLOCKS_APART, DrillReport
from bilten_orchestration.settings import DrillSettings

RPO, RTO, RECENT, WAYS = (
    "recovery_point_is_recent",
    "recovery_time_is_short",
    "drilled_recently",
    "every_way_was_walked",
)


@dataclass(frozen=True, slots=True)
class Promise:
    """`value` against `limit`, both in `unit`; None where nothing tells: then it is not kept. `waits` where
    it cannot be kept yet: the first drill is younger than the limit."""

    name: str
    kept: bool
    value: float | None
    limit: float
    unit: str
    said: str
    waits: bool = False


def rpo_limit(store: Store, settings: DrillSettings) -> float:
    """Seconds. Of a store without WAL: how old its newest backup may be by its schedule."""
    if store == "postgres":
        return settings.rpo_seconds
    return min(
        planned.within.total_seconds()
        for planned in PLANNED
        if planned.store == store and planned.kind != "logical"
    )


def judge(
    store: Store, reports: Sequence[DrillReport], settings: DrillSettings, now: datetime
) -> tuple[Promise, ...]:
    """Of the drills of one store, oldest first. What is measured is that of the newest drill of its daily
    way, also when that failed."""
    daily = {way.name for way in plan.ways_of(store) if way.daily}
    of_daily = [report for report in reports if report.way in daily]
    newest = of_daily[-1] if of_daily else None
    again = f"next: bilten drill run {store}"
    # one that is dated ahead would count until then
    good = [
        report.finished_at for report in of_daily if report.ok and report.finished_at <= now + CLOCKS_APART
    ]
    age = (now - max(good)).total_seconds() / 3600 if good else None
    passed: dict[str, datetime] = {}
    for report in reports:
        if report.ok:
            passed[report.way] = max(report.finished_at, passed.get(report.way, report.finished_at))
    since = now - plan.EVERY_WAY_WITHIN
    missing = [way.name for way in plan.ways_of(store) if way.name not in passed or passed[way.name] < since]
    walked = len(plan.ways_of(store)) - len(missing)
    return (
        _measured(RPO, None if newest is None else newest.rpo_seconds, rpo_limit(store, settings), again),
        _measured(RTO, None if newest is None else newest.rto_seconds, settings.rto_seconds, again),
        Promise(
            RECENT,
            age is not None and age <= settings.within_hours,
            age,
            settings.within_hours,
            "hours",
            f"no drill has passed; {again}"
            if age is None
            else f"the newest that passed ended {age:.1f} hours ago; {again}",
        ),
        Promise(
            WAYS,
            not missing,
            walked,
            len(plan.ways_of(store)),
            "ways",
            f"not walked in the last {plan.EVERY_WAY_WITHIN.days} days: {', '.join(missing)}; {again} --way"
            f" {missing[0]}"
            if missing
            else "",
            waits=not reports or now - reports[0].started_at < plan.EVERY_WAY_WITHIN,
        ),
    )


def _measured(name: str, value: float | None, limit: float, again: str) -> Promise:
    return Promise(
        name,
        value is not None and value <= limit,
        value,
        limit,
        "seconds",
        f"the newest drill measured none; {again}"
        if value is None
        else f"{value:,.1f} s, expected at most {limit:,.0f} s; see the page of the newest drill",
    )
