"""The common queries of partitioned tables, and whether they touch only the periods that they ask for.

A condition prunes where the planner can compare it with bounds: a bare column against a value. A function or
a cast around the column (date(created_at), created_at::date), or in ClickHouse another column than the one
that decides the month, reads every partition and says so nowhere. So each pattern is explained against the
tables as they are. EXPLAIN runs no query.

`{low}` and `{high}` are moments, half-open, of the current period, or the newest that is there; `{low_day}`
and `{high_day}` are its days.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.bounds import Period, literal
from bilten_orchestration.partitions.clickhouse import months
from bilten_orchestration.partitions.declared import CLICKHOUSE, DECLARED, PartitionedTable, StoreName
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@dataclass(frozen=True, slots=True)
class QueryPattern:
    """`used_by` says who asks so."""

    name: str
    table: str
    used_by: str
    query: str


_NOBODY = "'00000000-0000-0000-0000-000000000000'"

PATTERNS: tuple[QueryPattern, ...] = (
    QueryPattern(
        "a user's actions",
        "users.user_behavior",
        "the application: history of a user",
        "select action, created_at from users.user_behavior"
        f" where user_id = {_NOBODY} and created_at >= {{low}} and created_at < {{high}}"
        " order by created_at desc limit 50",
    ),
    QueryPattern(
        "actions by kind",
        "users.user_behavior",
        "product reports",
        "select action, count(*) from users.user_behavior"
        " where created_at >= {low} and created_at < {high} group by action",
    ),
    QueryPattern(
        "an event's counters",
        "events.event_analytics",
        "the organizer's page of an event",
        "select metric_name, sum(metric_value) from events.event_analytics"
        f" where event_id = {_NOBODY} and created_at >= {{low}} and created_at < {{high}}"
        " group by metric_name",
    ),
    QueryPattern(
        "a row's changes",
        "audit.audit_log",
        "bilten recover rows; support",
        "select actor, before, after from audit.audit_log where schema_name = 'payments'"
        " and table_name = 'payments' and row_key = 'x' and created_at >= {low} and created_at < {high}",
    ),
    QueryPattern(
        "the slowest statements",
        "system.slow_queries",
        "whoever is on call",
        "select query_id, max(execution_time) from system.slow_queries"
        " where created_at >= {low} and created_at < {high} group by query_id order by 2 desc limit 20",
    ),
    QueryPattern(
        "clicks of an organizer",
        "analytics.events",
        "analysts",
        "select event_type, count() from analytics.events"
        f" where organizer_id = {_NOBODY} and created_date >= {{low_day}} and created_date < {{high_day}}"
        " group by event_type",
    ),
    QueryPattern(
        "clicks of a day",
        "analytics.events",
        "staging of the daily metrics",
        "select event_id, uniq(click_id) from analytics.events"
        " where created_date = {low_day} group by event_id",
    ),
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """`scanned`, `expected` and `all` count partitions in PostgreSQL, parts in ClickHouse."""

    pattern: QueryPattern
    scanned: int
    expected: int
    all: int
    problem: Problem | None = None


def judge(
    settings: Settings,
    patterns: Sequence[QueryPattern] = PATTERNS,
    *,
    store: StoreName | None = None,
    now: datetime | None = None,
) -> list[Pruned]:
    """Each pattern, explained. With one partition there is nothing to leave out, and nothing is proven."""
    at = now or datetime.now(UTC)
    tables = {table.name: table for table in (*DECLARED, *CLICKHOUSE)}
    wanted = [each for each in patterns if store in (None, tables[each.table].store)]
    of_postgres = [each for each in wanted if tables[each.table].store == "postgres"]
    of_clickhouse = [each for each in wanted if tables[each.table].store == "clickhouse"]
    found: list[Pruned] = []
    with translated("the proof of pruning"):
        if of_postgres:
            with postgres.connect(
                settings.postgres, application_name="bilten partitions pruning", autocommit=True
            ) as connection:
                found += [_in_postgres(connection, tables[each.table], each, at) for each in of_postgres]
        if of_clickhouse:
            with closing(clickhouse.connect(settings.clickhouse)) as client:
                found += [_in_clickhouse(client, tables[each.table], each) for each in of_clickhouse]
    return found


def _in_postgres(
    connection: Connection, table: PartitionedTable, pattern: QueryPattern, now: datetime
) -> Pruned:
    partitions = attached(connection, table.name)
    period = Period.of(now, table.interval)
    if not any(p.covers(period.start, period.end) for p in partitions) and partitions:
        newest = partitions[-1]
        period = Period.of(newest.low or now, table.interval)
    expected = sum(p.is_default or p.overlaps(period.start, period.end) for p in partitions)
    row = connection.execute(f"explain (format json, verbose) {_filled(pattern, period)}".encode()).fetchone()
    assert row is not None  # noqa: S101
    oids = {p.oid for p in partitions}
    names = {(node["Schema"], node["Relation Name"]) for node in _nodes(row[0][0]["Plan"])}
    scanned = 0
    for schema, name in names:
        found = connection.execute(
            "select oid::bigint from pg_class where relname = %s and relnamespace = %s::regnamespace",
            (name, schema),
        ).fetchone()
        scanned += found is not None and found[0] in oids
    return _judged(pattern, scanned, expected, len(partitions), "partitions")


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in node:
        yield {"Schema": node.get("Schema", "public"), **node}
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _in_clickhouse(client: Client, table: PartitionedTable, pattern: QueryPattern) -> Pruned:
    there = months.read(client, table.name)
    if not there:
        return Pruned(pattern, 0, 0, 0)
    newest = there[-1]
    # database, table, parts, rows, marks of each reading
    read = client.query(f"explain estimate {_filled(pattern, newest.period)}").result_rows
    scanned = sum(int(row[2]) for row in read)
    return _judged(pattern, scanned, newest.parts, sum(month.parts for month in there), "parts")


def _filled(pattern: QueryPattern, period: Period) -> str:
    return pattern.query.format(
        low=literal(period.start),
        high=literal(period.end),
        low_day=f"'{period.first}'",
        high_day=f"'{period.plus(1).first}'",
    )


def _judged(pattern: QueryPattern, scanned: int, expected: int, every: int, unit: str) -> Pruned:
    problem = None
    if scanned > expected:
        problem = Problem(
            f"the query '{pattern.name}' of {pattern.table} reads periods that it does not ask for",
            expected=f"{expected} of {every} {unit}",
            found=f"{scanned}",
            next=f"compare the bare column with values, no function or cast around it; {pattern.used_by}",
        )
    return Pruned(pattern, scanned, expected, every, problem)
