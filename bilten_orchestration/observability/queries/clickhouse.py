"""Slow and failing statements of ClickHouse, from system.query_log of the node that is asked.

Texts are normalised by ClickHouse itself (normalizeQuery), which leaves no literal; of an error only code and
name are kept, for messages quote data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Refused
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

TEXT_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class ClickHouseSlow:
    """One statement within the window; `hash` is its normalized_query_hash."""

    hash: str
    query_text: str
    kind: str
    user: str
    calls: int
    mean_milliseconds: float
    max_milliseconds: int
    total_milliseconds: int
    read_rows: int
    read_bytes: int
    result_rows: int
    max_memory_bytes: int


@dataclass(frozen=True, slots=True)
class ClickHouseFailing:
    hash: str
    query_text: str
    user: str
    code: int
    error: str
    times: int
    last_at: datetime


_SLOW = """
    select toString(normalized_query_hash), substring(any(normalizeQuery(query)), 1, {length:UInt32}),
           any(query_kind), user, count(), avg(query_duration_ms), max(query_duration_ms),
           sum(query_duration_ms), sum(read_rows), sum(read_bytes), sum(result_rows), max(memory_usage)
    from system.query_log
    where type = 'QueryFinish' and is_initial_query
      and event_date >= toDate(now() - toIntervalHour({hours:UInt32}))
      and event_time >= now() - toIntervalHour({hours:UInt32})
    group by normalized_query_hash, user
    order by sum(query_duration_ms) desc, 1
"""
_FAILING = """
    select toString(normalized_query_hash), substring(any(normalizeQuery(query)), 1, {length:UInt32}), user,
           exception_code, errorCodeToName(exception_code), count(), toUnixTimestamp(max(event_time))
    from system.query_log
    where type in ('ExceptionBeforeStart', 'ExceptionWhileProcessing') and is_initial_query
      and event_date >= toDate(now() - toIntervalHour({hours:UInt32}))
      and event_time >= now() - toIntervalHour({hours:UInt32})
    group by normalized_query_hash, user, exception_code
    order by count() desc, 1
    limit {top:UInt32}
"""


def read(
    settings: Settings, *, hours: int
) -> tuple[tuple[ClickHouseSlow, ...], tuple[ClickHouseFailing, ...]]:
    """Slow and failing ones by the platform's settings. Raises StoreUnavailable, AccessRefused, Refused."""
    from bilten_orchestration.stores.clickhouse import connect

    queries = settings.queries
    client = connect(settings.clickhouse)
    try:
        return (
            tuple(
                slow(
                    client,
                    hours=hours,
                    milliseconds=queries.slow_milliseconds,
                    top=queries.top_statements,
                )
            ),
            tuple(failing(client, hours=hours, top=queries.top_statements)),
        )
    finally:
        client.close()


def slow(client: Client, *, hours: int, milliseconds: int, top: int) -> list[ClickHouseSlow]:
    """Above the mean, or among the `top` ones by time in total; the heaviest first. Raises Refused without
    a query log."""
    _require(client)
    with translated("reading the query log"):
        rows = client.query(
            f"select * from ({_SLOW}) where `avg(query_duration_ms)` > {{milliseconds:UInt32}}"
            f" union distinct select * from ({_SLOW} limit {{top:UInt32}})",
            parameters={"hours": hours, "length": TEXT_LENGTH, "milliseconds": milliseconds, "top": top},
        ).result_rows
    return sorted((ClickHouseSlow(*row) for row in rows), key=lambda each: -each.total_milliseconds)


def failing(client: Client, *, hours: int, top: int) -> list[ClickHouseFailing]:
    """The most frequent failures. Raises Refused without a query log."""
    _require(client)
    with translated("reading the query log"):
        rows = client.query(
            _FAILING, parameters={"hours": hours, "length": TEXT_LENGTH, "top": top}
        ).result_rows
    return [
        ClickHouseFailing(hash_, text, user, code, error, times, datetime.fromtimestamp(last, UTC))
        for hash_, text, user, code, error, times, last in rows
    ]


def _require(client: Client) -> None:
    with translated("looking for the query log"):
        found = client.query(
            "select count() from system.tables where database = 'system' and name = 'query_log'"
        ).result_rows[0][0]
    if not found:
        raise Refused(
            "ClickHouse keeps no query log, or does not show it: slow and failing statements are not seen",
            expected="system.query_log",
            found="no such table for this user",
            next="set log_queries = 1 and a query_log section in the server's configuration, and"
            " grant select on system.query_log to the user; it appears with the first statement",
        )
