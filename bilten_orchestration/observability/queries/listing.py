"""What was recorded of slow statements in a span of hours, of both databases."""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.observability.queries import clickhouse, prerequisites, regressions
from bilten_orchestration.observability.queries.clickhouse import ClickHouseFailing, ClickHouseSlow
from bilten_orchestration.observability.queries.regressions import Weeks
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated


@dataclass(frozen=True, slots=True)
class SlowStatement:
    """One statement over all looks of the span that recorded it."""

    database: str
    query_id: int
    query_text: str
    calls: int
    mean_milliseconds: float
    total_milliseconds: float
    rows_returned: int
    shared_blocks_read: int
    temp_blocks_written: int
    has_plan: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """What of ClickHouse is None where it has no address or could not be read (`problems`)."""

    postgres: tuple[SlowStatement, ...]
    clickhouse_slow: tuple[ClickHouseSlow, ...] | None
    clickhouse_failing: tuple[ClickHouseFailing, ...] | None
    weeks: Weeks
    problems: tuple[Problem, ...]


_RECORDED = """
    select database_name, query_id, max(query_text), sum(calls)::bigint, sum(total_time) / sum(calls),
           sum(total_time), sum(rows_returned)::bigint, sum(shared_blocks_read)::bigint,
           sum(temp_blocks_written)::bigint, bool_or(plan is not null)
    from system.slow_queries
    where "timestamp" > clock_timestamp() - make_interval(hours => %(hours)s)
      and created_at > clock_timestamp() - make_interval(hours => %(hours)s)
      and calls > 0 and query_id is not null and database_name is not null
    group by 1, 2
    order by 6 desc
"""


def list_queries(settings: Settings, *, hours: int) -> Listing:
    """Raises StoreUnavailable or AccessRefused of PostgreSQL; ClickHouse is a problem of the listing."""
    queries = settings.queries
    with (
        postgres.connect(settings.postgres, application_name="bilten queries", autocommit=True) as connection,
        translated("reading slow statements"),
    ):
        connection.execute(f"set statement_timeout = {queries.read_seconds * 1000:d}")
        facts = prerequisites.read(connection)
        problems = prerequisites.problems(facts)
        found = tuple(
            SlowStatement(*row) for row in connection.execute(_RECORDED, {"hours": hours}).fetchall()
        )
        today = postgres.clock(connection).date()
        weeks = regressions.compare(connection, None if problems else facts, queries, today)
    slow, failing = None, None
    if settings.clickhouse.host is not None:
        try:
            slow, failing = clickhouse.read(settings, hours=hours)
        except BiltenError as error:
            problems += error.problems
    return Listing(found, slow, failing, weeks, tuple(problems))
