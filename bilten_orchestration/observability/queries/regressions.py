"""Statements that became slower: the mean per call of the last seven whole days against the seven before.

By system.statement_days, which counts every statement and not only slow ones. Days are whole and in UTC, so
that two weeks hold the same weekdays; today is in neither. Below `regression_calls` in one of the weeks a
mean says nothing, and nothing is said. While the collector has not been at work on all fourteen days,
`days_before` and `days_now` tell how many of the seven have numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from bilten_orchestration.observability.queries import statistics, text
from bilten_orchestration.observability.queries.prerequisites import Facts
from bilten_orchestration.settings import QuerySettings
from bilten_orchestration.stores.postgres import Connection

WEEK_DAYS = 7


@dataclass(frozen=True, slots=True)
class Regression:
    """Means in milliseconds per call; `added_milliseconds` is what the last week cost more by it."""

    database: str
    query_id: int
    query_text: str
    calls_before: int
    mean_before_milliseconds: float
    calls_now: int
    mean_now_milliseconds: float
    added_milliseconds: float

    @property
    def factor(self) -> float:
        """Infinity where the week before took no measurable time."""
        before = self.mean_before_milliseconds
        return self.mean_now_milliseconds / before if before else float("inf")


@dataclass(frozen=True, slots=True)
class Weeks:
    """`compared` are statements with enough calls in both weeks; `first_day` begins the week before,
    `until` (not in it) ends the last one."""

    first_day: date
    until: date
    days_before: int
    days_now: int
    compared: int
    regressions: tuple[Regression, ...]


_WEEKS = """
    with weeks as (
        select database_name, query_id,
               coalesce(sum(calls) filter (where day < %(middle)s), 0)::bigint as calls_before,
               coalesce(sum(total_milliseconds) filter (where day < %(middle)s), 0) as total_before,
               coalesce(sum(calls) filter (where day >= %(middle)s), 0)::bigint as calls_now,
               coalesce(sum(total_milliseconds) filter (where day >= %(middle)s), 0) as total_now
        from system.statement_days
        where day >= %(first)s and day < %(until)s
        group by 1, 2
    ),
    means as (
        select *, total_before / calls_before as before, total_now / calls_now as now
        from weeks where calls_before >= %(calls)s and calls_now >= %(calls)s
    )
    select database_name, query_id, calls_before, before, calls_now, now, (now - before) * calls_now,
           now >= before * %(factor)s and now - before >= %(milliseconds)s
    from means
    order by 7 desc, 1, 2
"""
_DAYS = """
    select count(distinct day) filter (where day < %(middle)s),
           count(distinct day) filter (where day >= %(middle)s)
    from system.statement_days where day >= %(first)s and day < %(until)s
"""
# the newest text that was recorded: it is masked
_RECORDED = """
    select distinct on (query_id) query_id, query_text from system.slow_queries
    where query_id = any(%s) and query_text <> %s order by query_id, "timestamp" desc
"""


def compare(connection: Connection, facts: Facts | None, queries: QuerySettings, today: date) -> Weeks:
    """`facts` to read the texts of statements that were never slow; without them those have none."""
    window = {
        "first": today - timedelta(days=2 * WEEK_DAYS),
        "middle": today - timedelta(days=WEEK_DAYS),
        "until": today,
    }
    days = connection.execute(_DAYS, window).fetchone()
    assert days is not None  # noqa: S101 (an aggregate)
    means = connection.execute(
        _WEEKS,
        {
            **window,
            "calls": queries.regression_calls,
            "factor": queries.regression_factor,
            "milliseconds": queries.regression_milliseconds,
        },
    ).fetchall()
    slower = [row for row in means if row[7]]
    told = _texts(connection, facts, [row[1] for row in slower])
    return Weeks(
        window["first"],
        window["until"],
        days[0],
        days[1],
        len(means),
        tuple(Regression(row[0], row[1], told.get(row[1], text.EVICTED), *row[2:7]) for row in slower),
    )


def _texts(connection: Connection, facts: Facts | None, query_ids: list[int]) -> dict[int, str]:
    found: dict[int, str] = dict(connection.execute(_RECORDED, (query_ids, text.EVICTED)).fetchall())
    missing = [query_id for query_id in query_ids if query_id not in found]
    if facts is not None and missing:
        found |= {
            query_id: text.masked(raw)
            for query_id, raw in statistics.texts_by_id(connection, facts, missing).items()
        }
    return found
