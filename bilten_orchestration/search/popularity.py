"""How many tickets of each event were sold in 30 days: counted in ClickHouse, kept in PostgreSQL.

system.event_popularity is one more table that a document joins. A number that changed has a new mark, so the
next delta sends the document whole, under its batch's number; a build reads it in its snapshot like the rest,
and needs no ClickHouse. (An update of one field in OpenSearch would count the version up, past batches to
come, whose writes would be refused: docs/adr/0025.)

What is counted is published: local days of fct_event_sales_daily, each of which equalled PostgreSQL when it
was swapped in. A day that is missing is no day without sales, and refuses the count. One transaction: a kill
leaves the numbers of the day before.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from bilten_orchestration.errors import Refused
from bilten_orchestration.metrics.days import DAY, span
from bilten_orchestration.metrics.reconciliation import MART
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import LET_GO_SECONDS, advisory_lock

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

DAYS: Final = 30
AT_ONCE: Final = 5_000  # numbers of one statement
LATE: Final = 3  # days without a published one, before the count is refused
LOCK: Final = "search:popularity"

_COUNTED = f"""
    select toString(event_id), sum(tickets_sold) as sold from marts.{MART}
    where metric_date between {{first:Date32}} and {{last:Date32}}
    group by event_id having sold > 0 order by toString(event_id)
"""
# uuids are in the order of their text; ClickHouse's are not
_KNOWN = """
    select event_id::text, tickets_sold from system.event_popularity where tickets_sold > 0 order by event_id
"""
_WRITE = """
    insert into system.event_popularity (event_id, tickets_sold)
    select * from unnest(%s::uuid[], %s::bigint[])
    on conflict (event_id) do update set tickets_sold = excluded.tickets_sold
"""


@dataclass(frozen=True, slots=True)
class PopularityReport:
    """Sales of the local days `first` to `last`. `changed` numbers differ from those of the last count."""

    first: date
    last: date
    events: int
    tickets_sold: int
    changed: int
    seconds: float


def count(settings: Settings, *, today: date | None = None, progress: Progress = silent) -> PopularityReport:
    """Count, and write down what changed. `today` is that of UTC.

    Raises Refused (a day is not published), LockHeld (another count), StoreUnavailable.
    """
    started = time.monotonic()
    with (
        translated("the count of sales for search"),
        postgres.connect(
            settings.postgres, "etl", application_name="bilten search popularity", autocommit=True
        ) as connection,
        advisory_lock(connection, LOCK, wait_seconds=LET_GO_SECONDS),
    ):
        client = clickhouse.connect(settings.clickhouse)
        try:
            first, last = _window(client, settings, today or datetime.now(UTC).date())
            progress(f"counting sales from {first} to {last}")
            totals = _Totals()
            with (
                connection.transaction(),
                connection.cursor("popularity") as known,
                client.query_row_block_stream(_COUNTED, {"first": first, "last": last}) as blocks,
            ):
                known.execute(_KNOWN)
                changes = _changes(iter(known), (row for block in blocks for row in block), totals)
                while some := list(itertools.islice(changes, AT_ONCE)):
                    connection.execute(_WRITE, [list(column) for column in zip(*some, strict=True)])
        finally:
            client.close()
    return PopularityReport(
        first, last, totals.events, totals.tickets, totals.changed, time.monotonic() - started
    )


@dataclass(frozen=True, slots=True)
class PopularityCompared:
    """Of the days that a count would take now: events that sold, and their tickets, in each store."""

    events_postgres: int
    tickets_postgres: int
    events_clickhouse: int
    tickets_clickhouse: int

    @property
    def equal(self) -> bool:
        return (self.events_postgres, self.tickets_postgres) == (
            self.events_clickhouse,
            self.tickets_clickhouse,
        )


def compare(settings: Settings, *, today: date | None = None) -> PopularityCompared:
    """Reads both. They differ where a day was published anew since the count, until the next one.

    Raises as `count`.
    """
    with (
        translated("the comparison of sales for search"),
        postgres.connect(settings.postgres, "etl", application_name="bilten search popularity") as connection,
    ):
        client = clickhouse.connect(settings.clickhouse)
        try:
            first, last = _window(client, settings, today or datetime.now(UTC).date())
            counted = client.query(
                f"select count(), toInt64(sum(sold)) from ({_COUNTED})", {"first": first, "last": last}
            ).result_rows[0]
        finally:
            client.close()
        known = connection.execute(
            "select count(*), coalesce(sum(tickets_sold), 0)::bigint from system.event_popularity"
            " where tickets_sold > 0"
        ).fetchone()
    assert known is not None  # noqa: S101
    return PopularityCompared(known[0], known[1], counted[0], counted[1])


@dataclass(slots=True)
class _Totals:
    events: int = 0
    tickets: int = 0
    changed: int = 0


def _changes(
    known: Iterator[Sequence[Any]], counted: Iterator[Sequence[Any]], totals: _Totals
) -> Iterator[tuple[str, int]]:
    """(event, tickets) where the two differ. Both come in the order of ids; one that is gone sold none."""
    before, now = next(known, None), next(counted, None)
    while before is not None or now is not None:
        if now is None or (before is not None and before[0] < now[0]):
            assert before is not None  # noqa: S101
            change: tuple[str, int] | None = (before[0], 0)
            before = next(known, None)
        else:
            totals.events += 1
            totals.tickets += now[1]
            same_event = before is not None and before[0] == now[0]
            change = None if before is not None and same_event and before[1] == now[1] else (now[0], now[1])
            before = next(known, None) if same_event else before
            now = next(counted, None)
        if change is not None:
            totals.changed += 1
            yield change


def _window(client: Client, settings: Settings, today: date) -> tuple[date, date]:
    """The last DAYS published local days before `today`."""
    published = {
        row[0]
        for row in client.query(
            "select day from analytics.mart_days final where mart = {mart:String} and batch > 0 "
            "and day between {from:Date32} and {to:Date32}",
            {"mart": MART, "from": today - DAY * (DAYS + LATE), "to": today - DAY},
        ).result_rows
    }
    return window(published, today, date.fromisoformat(settings.metrics.first_day))


def window(published: Collection[date], today: date, first_day: date) -> tuple[date, date]:
    """First and last day to count. `first_day`: what is before it was never counted. Raises Refused."""
    last = max((day for day in published if day < today), default=None)
    if last is None or last < today - timedelta(days=LATE):
        raise Refused(
            f"{MART} shows no day of late",
            expected=f"a published day since {today - timedelta(days=LATE)}",
            found="none" if last is None else f"{last} as the newest",
            next=f"bilten metrics build --from {today - DAY * DAYS} --to {today - DAY}",
        )
    first = max(last - DAY * (DAYS - 1), first_day)
    missing = sorted(set(span(first, last)) - set(published)) if first <= last else []
    if missing:
        raise Refused(
            f"{MART} lacks days of the last {DAYS}",
            expected=f"every day from {first} to {last}",
            found=f"{len(missing)} missing, from {missing[0]} to {missing[-1]}",
            next=f"bilten metrics build --from {missing[0]} --to {missing[-1]}",
        )
    return first, last
