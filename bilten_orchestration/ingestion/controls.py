"""Control totals: PostgreSQL's own numbers for a day, which the metrics gate compares with.

The statement is controls.sql. It is computed in the snapshot of the batch whose rows ClickHouse holds,
so that a difference is an error and never a matter of time. analytics.control_days is written after
the totals: a day without a row there has no evidence and is not published.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from bilten_orchestration.ingestion.source import Snapshot, chunks
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# local days from UTC+14 to UTC-12 around a UTC day
_AHEAD, _BEHIND = timedelta(hours=14), timedelta(hours=12)
_MOST_RANGES = 40
DAYS_AHEAD = 2


def days_without(client: Client, first: date, as_of: datetime) -> list[date]:
    """Days from `first` to two days after `as_of` that have no control totals yet."""
    last = as_of.astimezone(UTC).date() + timedelta(days=DAYS_AHEAD)
    have = days_with(client)
    return [day for n in range((last - first).days + 1) if (day := first + timedelta(days=n)) not in have]


def days_with(client: Client) -> set[date]:
    """Days that have control totals."""
    return {
        row[0] for row in client.query("select distinct metric_date from analytics.control_days").result_rows
    }


def write(
    connection: Connection,
    client: Client,
    days: Collection[date],
    *,
    batch: int,
    snapshot: Snapshot,
    whole: bool,
) -> int:
    """Compute and write the totals of `days`; `whole` when they are all days there are. Returns the cells.

    Repeating it for the same batch is harmless: the tables replace equal keys, and inserts carry a token.
    """
    if not days:
        return 0
    ordered = sorted(days)
    cells = 0
    connection.execute("set local max_parallel_workers_per_gather to default")  # its rows are sorted
    for number, (rows, body) in enumerate(
        chunks(connection, _copy(ordered, batch, whole), rows_at_once=200_000)
    ):
        client.raw_insert(
            "analytics.control_totals",
            column_names=["metric_date", "event_id", "currency", "metric", "value", "batch"],
            insert_block=body,
            fmt="TabSeparated",
            settings={"insert_deduplication_token": f"{batch}:control_totals:{number}"},
        )
        cells += rows
    _write_days(client, ordered, batch, snapshot)
    return cells


def _copy(days: Collection[date], batch: int, whole: bool) -> sql.Composed:
    inner = sql.SQL(statement(days, whole=whole))
    return sql.SQL("copy (select c.*, {} from ({}) c order by 1, 2, 3, 4) to stdout").format(
        sql.Literal(batch), inner
    )


def statement(days: Collection[date], *, whole: bool) -> str:
    """The SQL for these days. With `whole` no index range is used, every row is read once."""
    ranges = [] if whole else _ranges(sorted(days))

    def in_days(match: re.Match[str]) -> str:
        moment = match[1]
        if not ranges:
            return "true"
        return "(" + " or ".join(f"{moment} >= '{low}' and {moment} < '{high}'" for low, high in ranges) + ")"

    text = re.sub(r"\{in_days:([a-z_.]+)\}", in_days, _template())
    listed = ", ".join(f"'{day.isoformat()}'" for day in sorted(days))
    return text.replace("{days}", f"metric_date = any(array[{listed}]::date[])")


@cache
def _template() -> str:
    text = Path(__file__).with_name("controls.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def _ranges(days: list[date]) -> list[tuple[str, str]]:
    """UTC ranges that hold every moment of these local days; one for all when they are many."""
    spans: list[list[date]] = []
    for day in days:
        if spans and day - spans[-1][1] <= timedelta(days=3):
            spans[-1][1] = day
        else:
            spans.append([day, day])
    if len(spans) > _MOST_RANGES:
        spans = [[days[0], days[-1]]]
    ranges = []
    for first, last in spans:
        low = datetime(first.year, first.month, first.day, tzinfo=UTC) - _AHEAD
        high = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1) + _BEHIND
        ranges.append((low.isoformat(), high.isoformat()))
    return ranges


def _write_days(client: Client, days: list[date], batch: int, snapshot: Snapshot) -> None:
    listed = ", ".join(f"'{day.isoformat()}'" for day in days)
    client.command(
        "insert into analytics.control_days (metric_date, batch, cells, as_of) "
        f"select day, {batch}, cells, toDateTime64('{snapshot.as_of.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}', "
        "6, 'UTC') "
        f"from (select arrayJoin([{listed}]::Array(Date32)) as day) wanted "
        "left join (select metric_date, count() as cells from analytics.control_totals final "
        f"where batch = {batch} group by metric_date) counted on counted.metric_date = wanted.day",
        settings={"insert_deduplication_token": f"{batch}:control_days", "join_use_nulls": 0},
    )
