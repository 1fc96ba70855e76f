"""The weekly advice: what both databases tell of themselves, put together.

Reads only. What could not be read is a problem of the report and not an empty chapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.observability.queries import (
    clickhouse,
    indexes,
    lines,
    prerequisites,
    regressions,
    scans,
    tables,
)
from bilten_orchestration.observability.queries.clickhouse import ClickHouseFailing, ClickHouseSlow
from bilten_orchestration.observability.queries.indexes import Usage
from bilten_orchestration.observability.queries.lines import Advice, Kind
from bilten_orchestration.observability.queries.regressions import Weeks
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

_LAST_LOOK = "select looked_at from system.statement_looks where database_name = current_database()"
HOURS = 168  # a week, as often as the report is made


@dataclass(frozen=True, slots=True)
class AdviceReport:
    """`last_look_at` is when statements were last counted (collect.py), None where they never were.
    What is of ClickHouse is None where it could not be read or has no address."""

    at: datetime
    advice: tuple[Advice, ...]
    last_look_at: datetime | None
    usage: Usage
    weeks: Weeks
    clickhouse_slow: tuple[ClickHouseSlow, ...] | None
    clickhouse_failing: tuple[ClickHouseFailing, ...] | None
    problems: tuple[Problem, ...]

    def count(self, kind: Kind) -> int:
        return sum(1 for each in self.advice if each.kind == kind)

    @property
    def gain_bytes(self) -> int:
        return sum(each.gain_bytes for each in self.advice)


def advise(settings: Settings, *, progress: Progress = silent) -> AdviceReport:
    """Raises StoreUnavailable or AccessRefused of PostgreSQL alone; what else is missing is in `problems`."""
    queries = settings.queries
    problems: list[Problem] = []
    with (
        postgres.connect(settings.postgres, application_name="bilten advice", autocommit=True) as connection,
        translated("reading catalogues and statistics"),
    ):
        connection.execute(f"set statement_timeout = {queries.read_seconds * 1000:d}")
        now = postgres.clock(connection)
        facts = prerequisites.read(connection)
        missing = prerequisites.problems(facts)
        problems += missing
        progress("PostgreSQL: indexes")
        usage = indexes.read(connection)
        found = [
            *lines.of_indexes(usage, queries, indexes.partitioned(connection)),
            *lines.of_keys(indexes.bare_keys(connection), queries),
        ]
        progress("PostgreSQL: tables")
        found += lines.of_tables(tables.read(connection), queries)
        progress("PostgreSQL: statements of two weeks")
        found += lines.of_scans(scans.read(connection, HOURS))
        weeks = regressions.compare(connection, None if missing else facts, queries, now.date())
        row = connection.execute(_LAST_LOOK).fetchone()
    slow: tuple[ClickHouseSlow, ...] | None = None
    failing: tuple[ClickHouseFailing, ...] | None = None
    if settings.clickhouse.host is not None:
        progress("ClickHouse: the query log of a week")
        try:
            slow, failing = clickhouse.read(settings, hours=HOURS)
        except BiltenError as error:  # the other store has its report all the same
            problems += error.problems
    return AdviceReport(
        now,
        tuple(lines.once(found)),
        None if row is None else row[0],
        usage,
        weeks,
        slow,
        failing,
        tuple(problems),
    )
