"""What is promised of recovery, and whether the attested drills keep it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.backups.plan import PLANNED
from bilten_orchestration.drills import plan
from bilten_orchestration.drills.plan import Drilled
from bilten_orchestration.drills.report import CLOCKS_APART, DrillReport
from bilten_orchestration.settings import DrillSettings

RPO, RTO, RECENT, WAYS, AGREED, CALM = (
    "recovery_point_is_recent",
    "recovery_time_is_short",
    "drilled_recently",
    "every_way_was_walked",
    "stores_agreed_recently",
    "nothing_warned",
)
#: Of a drill of ClickHouse: how many days of marts were the same three times (drills/clickhouse.py).
AGREED_DAYS = "agreed_mart_days"
#: Of a drill of search: how many documents were the same in the live index (drills/search_live.py).
AGREED_DOCUMENTS = "agreed_documents"
#: By store: the figure that says how much was compared with the live one, and what that is.
_AGREED = {
    "clickhouse": (AGREED_DAYS, "marts built from a restored PostgreSQL"),
    "search": (AGREED_DOCUMENTS, "documents built from a restored PostgreSQL"),
}


def names_of(store: Drilled) -> tuple[str, ...]:
    """Of what is promised of a store's recovery, in the order of `judge`."""
    return (RPO, RTO, RECENT, WAYS, *((AGREED,) if store in _AGREED else ()), CALM)


@dataclass(frozen=True, slots=True)
class Promise:
    """`value` against `limit`, both in `unit`; None where nothing tells: then it is not kept. `waits` where
    it cannot be kept yet, for the first drill is younger than the limit, and where it wants but a look."""

    name: str
    kept: bool
    value: float | None
    limit: float
    unit: str
    said: str
    waits: bool = False


def rpo_limit(store: Drilled, settings: DrillSettings) -> float:
    """Seconds. Of a store without WAL: how old its newest backup may be by its schedule. Of search it is what
    PostgreSQL may lose, from which it is built."""
    if plan.comes_from(store) == "postgres":
        return settings.rpo_seconds
    return min(
        planned.within.total_seconds()
        for planned in PLANNED
        if planned.store == store and planned.kind != "logical"
    )


def judge(
    store: Drilled, reports: Sequence[DrillReport], settings: DrillSettings, now: datetime
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
    young = not reports or now - reports[0].started_at < plan.EVERY_WAY_WITHIN
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
            waits=young,
        ),
        *((_agreed(store, reports, now, young, again),) if store in _AGREED else ()),
        _calm(store, reports),
    )


def _agreed(
    store: Drilled, reports: Sequence[DrillReport], now: datetime, young: bool, again: str
) -> Promise:
    """A drill passes while PostgreSQL cannot be restored, or nothing can be compared: not for ever."""
    figure, what = _AGREED[store]
    agreed = [report.finished_at for report in reports if report.ok and figure in report.figures]
    days = (now - max(agreed)).total_seconds() / 86_400 if agreed else None
    limit = plan.EVERY_WAY_WITHIN.days
    return Promise(
        AGREED,
        days is not None and days <= limit,
        days,
        limit,
        "days",
        f"{what} were {'never ' if days is None else ''}compared"
        f"{'' if days is None else f' {days:.1f} days ago'}; the newest drill says what was missing; {again}",
        waits=young,
    )


def _calm(store: Drilled, reports: Sequence[DrillReport]) -> Promise:
    """Of the newest drill of each way: what warned is on nobody's desk otherwise."""
    newest = {report.way: report for report in reports}
    warned = [
        f"{way.name}: {proof.name}: expected {proof.expected}, found {proof.found}"
        for way in plan.ways_of(store)
        if way.name in newest
        for proof in newest[way.name].warnings
    ]
    return Promise(CALM, not warned, len(warned), 0, "warnings", "\n".join(warned), waits=True)


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
