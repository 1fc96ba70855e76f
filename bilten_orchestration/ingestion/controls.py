"""Control totals: PostgreSQL's own numbers for a day, which the metrics gate compares with.

The statement is controls.sql. It is computed in the snapshot of the batch whose rows ClickHouse holds,
so that a difference is an error and never a matter of time. What PostgreSQL computed goes to the stage
first, which nobody reads: a whole load computes it beside the transfer, before its rows are applied.
Then `write` makes cells of it, and `publish` names their days in analytics.control_days: a day without a
row there has no evidence and is not published, and totals of a batch that it does not name are nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from psycopg import sql

from bilten_orchestration.ingestion.source import Snapshot, chunks
from bilten_orchestration.ingestion.tables import STAGE
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# local days from UTC+14 to UTC-12 around a UTC day
_AHEAD, _BEHIND = timedelta(hours=14), timedelta(hours=12)
# more are looked up faster than read, but where most rows are read each range is asked of each row
_MOST_RANGES = 12
DAYS_AHEAD = 2
# some days of trading; rewriting less than what is needed anyway is not worth it
_SUPERSEDED_ROWS = 1_000_000

METRICS = (
    "gross_sales",
    "fees",
    "tax",
    "paid_orders",
    "ticket_face_sales",
    "refunds",
    "refund_reversals",
    "refunded_fees",
    "refunded_tax",
    "chargebacks",
    "dispute_fees",
    "chargeback_reversals",
    "tickets_sold",
    "comp_tickets",
    "check_ins",
    "tickets_cancelled",
    "net_revenue",
)
# of a row of the stage, which has a column for each
_PAIRS = ", ".join(f"('{metric}', {metric})" for metric in METRICS)
_CELLS = f"arrayFilter(cell -> cell.2 <> 0, [{_PAIRS}])"


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


def stage(
    connection: Connection, client: Client, days: Collection[date] | None, *, batch: int, rows_at_once: int
) -> None:
    """Compute the totals of `days` (None: of every day there is) and keep them in the stage, unread.

    One row per day, event and currency; `write` makes cells of it. `connection` is in the snapshot.
    Days of a second call are added to those of the first, and must be others.
    """
    metrics = ", ".join(f"{metric} Decimal(38, 3)" for metric in METRICS)
    client.command(
        f"create table if not exists {_staged(batch)} "
        f"(metric_date Date32, event_id UUID, currency String, {metrics}) "
        "engine = MergeTree order by metric_date settings non_replicated_deduplication_window = 1000"
    )
    if days is not None and not days:
        return
    call = uuid4().hex
    copy = sql.SQL("copy ({}) to stdout").format(sql.SQL(statement(days)))
    with closing(chunks(connection, copy, rows_at_once)) as parts:
        for number, (_, body) in enumerate(parts):
            client.raw_insert(
                _staged(batch),
                column_names=["metric_date", "event_id", "currency", *METRICS],
                insert_block=body,
                fmt="TabSeparated",
                settings={"insert_deduplication_token": f"{call}:{number}"},
            )


def _staged(batch: int) -> str:
    """A table of the batch's own: what a killed batch had sent must not end up in that of the next one."""
    return f"{STAGE}.control_totals_{batch}"


@dataclass(frozen=True, slots=True)
class Published:
    """The control totals of a batch; `held` and `needed` are rows of all batches, and those not replaced."""

    days: int
    cells: int
    held: int
    needed: int


def write(client: Client, *, batch: int) -> None:
    """Make cells of what is staged. Nobody reads them before `publish` has named their days.

    Repeating it for the same batch is harmless: the table replaces equal keys.
    """
    client.command(
        "insert into analytics.control_totals (metric_date, event_id, currency, metric, value, batch) "
        f"select metric_date, event_id, currency, cell.1, cell.2, {batch} from {_staged(batch)} "
        f"array join {_CELLS} as cell",
        settings={"optimize_on_insert": 0},
    )


def publish(client: Client, days: Collection[date], *, batch: int, snapshot: Snapshot) -> Published:
    """Name what was written, and `days` without facts, as the evidence of their days.

    Repeating it for the same batch is harmless: the table replaces equal keys.
    """
    listed = ", ".join(f"'{day.isoformat()}'" for day in sorted(days))
    client.command(
        "insert into analytics.control_days (metric_date, batch, cells, as_of) "
        f"select day, {batch}, sum(cells), "
        f"toDateTime64('{snapshot.as_of.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC') "
        f"from (select arrayJoin([{listed}]::Array(Date32)) as day, 0 as cells union all "
        f"select metric_date, length({_CELLS}) from {_staged(batch)}) group by day"
    )
    row = client.query(
        f"select countIf(newest = {batch}), sumIf(cells, newest = {batch}), "
        "(select count() from analytics.control_totals), sum(cells) from "
        "(select max(batch) as newest, argMax(cells, batch) as cells from analytics.control_days "
        "group by metric_date)"
    ).result_rows[0]
    return Published(*map(int, row))


def forget_superseded(client: Client, published: Published) -> int:
    """Delete totals that a newer batch replaced, once they are many; how many rows they were.

    A day that is traded on gets new totals in every batch, and a gate reads past all of them. Called while
    no build reads (under the lock of the sync). Only what `control_days` does not name as the newest goes,
    so a kill leaves rows that are no evidence anyway, for the next call.
    """
    superseded = published.held - published.needed
    if superseded <= max(published.needed, _SUPERSEDED_ROWS):
        return 0
    newest = "select metric_date, max(batch) from analytics.control_days group by metric_date"
    # days first: a total without its day is no evidence, a day without its totals would be wrong evidence
    for table in ("control_days", "control_totals"):
        client.command(
            f"alter table analytics.{table} delete where (metric_date, batch) not in ({newest})",
            settings={"mutations_sync": 2},
        )
    return superseded


def statement(days: Collection[date] | None) -> str:
    """The SQL for these days. With None no index range is used, every row is read once."""
    ranges = [] if days is None else _ranges(sorted(days))

    def in_days(match: re.Match[str]) -> str:
        moment = match[1]
        if not ranges:
            return "true"
        return "(" + " or ".join(f"{moment} >= '{low}' and {moment} < '{high}'" for low, high in ranges) + ")"

    text = re.sub(r"\{in_days:([a-z_.]+)\}", in_days, _template())
    if days is None:
        return text.replace("{days}", "true")
    listed = ", ".join(f"'{day.isoformat()}'" for day in sorted(days))
    return text.replace("{days}", f"metric_date = any(array[{listed}]::date[])")


@cache
def _template() -> str:
    text = Path(__file__).with_name("controls.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def _ranges(days: list[date]) -> list[tuple[str, str]]:
    """UTC ranges that hold every moment of these local days, cut at the widest gaps between them."""
    gaps = sorted(
        ((after - before, place) for place, (before, after) in enumerate(pairwise(days))), reverse=True
    )
    cuts = sorted(place for gap, place in gaps[: _MOST_RANGES - 1] if gap > timedelta(days=3))
    firsts, lasts = [0, *(cut + 1 for cut in cuts)], [*cuts, len(days) - 1]
    ranges = []
    for first, last in ((days[a], days[b]) for a, b in zip(firsts, lasts, strict=True)):
        low = datetime(first.year, first.month, first.day, tzinfo=UTC) - _AHEAD
        high = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1) + _BEHIND
        ranges.append((low.isoformat(), high.isoformat()))
    return ranges
