"""Ranges of days: judged, published, refused, repaired, restated, explained; with sync and traffic beside."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4, uuid5

import pyarrow as pa
import pytest

from bilten_orchestration.errors import LockHeld, Refused
from bilten_orchestration.ingestion import clickstream
from bilten_orchestration.metrics import dirty
from bilten_orchestration.metrics.build import build, build_dirty
from bilten_orchestration.metrics.days import span
from bilten_orchestration.metrics.explain import explain
from bilten_orchestration.metrics.freshness import daily_marts
from bilten_orchestration.metrics.reconciliation import reconcile
from bilten_orchestration.search import popularity
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests.integration.ingestion.shop import Shop, owner
from tests.integration.metrics.world import FIRST, World, later, moment
from tests.waiting import until

LAST = later(FIRST, 29)
BAD = later(FIRST, 12)


def plant_a_cent(settings: Settings, payment: object) -> None:
    """One cent more in ClickHouse than PostgreSQL has, under the same version."""
    client = clickhouse.connect(settings.clickhouse)
    client.command(
        "insert into bilten_raw.payments_payments"
        " select * replace (amount + toDecimal64('0.01', 3) as amount)"
        " from bilten_raw.payments_payments final where id = {payment:UUID}",
        {"payment": payment},
    )
    client.close()


def dirty_days(settings: Settings) -> list[date]:
    with postgres.connect(settings.postgres, "etl", autocommit=True) as connection:
        return [found.day for found in dirty.dirty_days(connection)]


def journal(settings: Settings) -> dict[str, int]:
    with postgres.connect(settings.postgres, "etl", autocommit=True) as connection:
        found = connection.execute("select state, count(*) from system.build_journal group by state")
        return {state: int(count) for state, count in found.fetchall()}


def build_tables(settings: Settings) -> int:
    client = clickhouse.connect(settings.clickhouse)
    try:
        found = client.query("select count() from system.tables where position(name, '__build_') > 0")
        return int(found.first_row[0])
    finally:
        client.close()


def popularity_follows_what_is_published(world: World) -> None:
    """What documents of search say about sales; refunds take nothing from it."""
    cold = uuid4()
    with postgres.connect(world.settings.postgres, "etl", autocommit=True) as connection:
        connection.execute("insert into system.event_popularity values (%s, 7)", (cold,))

        def sold() -> dict[UUID, int]:
            return dict(connection.execute("select event_id, tickets_sold from system.event_popularity"))

        def marks() -> dict[UUID, str]:
            return dict(connection.execute("select event_id, sync_xid::text from system.event_popularity"))

        report = popularity.count(world.settings, today=later(LAST, 1))
        assert (report.first, report.last, report.events) == (FIRST, LAST, 2)
        assert sold() == {world.kolkata.event: 60, world.auckland.event: 30, cold: 0}
        assert (report.tickets_sold, report.changed) == (90, 3)

        before = marks()
        assert popularity.count(world.settings, today=later(LAST, 1)).changed == 0
        assert marks() == before  # else every document would be sent again, every day

        assert popularity.compare(world.settings, today=later(LAST, 1)).equal
        connection.execute("update system.event_popularity set tickets_sold = 31 where tickets_sold = 30")
        differing = popularity.compare(world.settings, today=later(LAST, 1))
        assert (differing.equal, differing.tickets_postgres, differing.tickets_clickhouse) == (False, 91, 90)
        assert popularity.count(world.settings, today=later(LAST, 1)).changed == 1
        before = marks()

        with pytest.raises(Refused, match="lacks days"):
            popularity.count(world.settings, today=LAST)
        assert marks() == before


def test_one_bad_day_of_thirty_then_its_repair_then_a_late_refund(world: World) -> None:
    settings = world.settings
    world.trade(FIRST, LAST).sync()
    plant_a_cent(settings, world.orders[BAD].payment)

    # 29 published, one refused and named, with what was expected and found
    said: list[str] = []
    report = build(settings, FIRST, LAST, refresh_whole=False, progress=said.append)
    nodes = [line for line in said if line.startswith("[")]
    assert any("event_sales_equal_control_totals" in line for line in nodes)
    assert [line for line in nodes if not re.match(r"\[\d+/\d+] \w+: \w+ in \d", line)] == []
    sales = [day for day in report.days if day.mart == "fct_event_sales_daily"]
    assert sum(day.verdict == "swapped" for day in sales) == 29
    assert [day.date for day in sales if day.verdict == "refused"] == [BAD]
    assert report.refused_days == (BAD,)
    [told] = [
        problem
        for problem in report.problems
        if "fct_event_sales_daily" in problem.what and "event_sales_equal_control_totals" in problem.what
    ]
    assert (told.expected, told.found.split()[0]) == ("32.5", "32.51")
    assert str(world.kolkata.event) in told.next
    assert {row[0] for row in world.published()} == set(span(FIRST, LAST)) - {BAD}
    assert dirty_days(settings) == [BAD]
    assert "planned" not in journal(settings)
    assert build_tables(settings) == 0
    assert reconcile(settings).equal

    # repaired, the same range: one day is swapped, nothing else changes
    others = [row for row in world.published() if row[0] != BAD]
    world.sync(full=True)
    report = build(settings, FIRST, LAST, refresh_whole=False)
    assert report.problems == ()
    assert {day.date for day in report.days if day.verdict == "swapped"} == {BAD}
    assert [row for row in world.published() if row[0] != BAD] == others
    assert dirty_days(settings) == []

    # a refund comes late: its day is restated, visibly, and no other day moves
    refunded = later(FIRST, 20)
    before = {row[0]: row for row in world.published() if row[3] == world.kolkata.event}
    world.kolkata.refund(world.orders[FIRST], moment(refunded), amount="20.50", fee="1.00")
    world.sync()
    assert dirty_days(settings) == [refunded]
    late_report = build_dirty(settings)
    assert late_report is not None
    assert late_report.problems == ()
    [restated] = [day for day in late_report.days if day.mart == "fct_event_sales_daily" and day.restated]
    assert (restated.date, restated.restated) == (refunded, 3)
    after = {row[0]: row for row in world.published() if row[3] == world.kolkata.event}
    assert {day for day in before if before[day] != after[day]} == {refunded}
    assert dirty_days(settings) == []
    assert build_dirty(settings) is None
    assert reconcile(settings).equal

    popularity_follows_what_is_published(world)

    # the cell explained: postings and PostgreSQL's rows, added up
    found = explain(settings, refunded, world.kolkata.event, "net_revenue")
    assert found.equal
    assert {fact.kind for fact in found.rows} == {"payment", "refund"}
    assert found.sum == found.cell.value == Decimal("40.50") - Decimal("1.00") - Decimal("19.50")
    metrics = ("gross_sales", "refunds", "refunded_fees", "tickets_sold", "ticket_face_sales", "paid_orders")
    for metric in metrics:
        assert explain(settings, refunded, world.kolkata.event, metric).equal, metric

    # PostgreSQL moves on: the difference is told, with what to do
    world.kolkata.order(moment(refunded), amount="5.00", fee="1.00")
    behind = explain(settings, refunded, world.kolkata.event, "gross_sales")
    assert not behind.equal
    assert behind.sum - behind.cell.value == Decimal("5.00")
    assert "bilten sync" in behind.problems[0].next


def test_a_sync_purchases_and_clicks_go_on_while_days_build(world: World) -> None:
    """Yesterday and today, by the clock that everybody has: none of it is an alarm, and no day is refused."""
    settings = world.settings
    today = datetime.now(UTC).date()
    yesterday = later(today, -1)
    world.trade(yesterday, today).sync()
    browsers = Browsers(settings, (world.kolkata, world.auckland), (yesterday, today))
    browsers.long_ago()
    stop = threading.Event()

    def traffic() -> None:
        with owner(settings) as connection:
            mine = replace(world.kolkata, connection=connection)
            while not stop.is_set():
                order = mine.order(moment(today), amount="7.70")
                mine.refund(order, moment(today), amount="7.70", fee="1.00")
                stop.wait(0.1)  # ten purchases a second

    def batches() -> int:
        newest = 0
        while not stop.is_set():
            try:
                newest = world.sync().batch
            except LockHeld:
                continue
        return newest

    def clicks() -> None:
        while not stop.is_set():
            browsers.click()
            stop.wait(0.1)

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(work) for work in (traffic, batches, clicks)]
        try:
            until(lambda: browsers.deliveries > 5 or any(each.done() for each in running), "clicks come")
            before = browsers.seen()
            first = build(settings, yesterday, today, refresh_whole=False)
            between = browsers.seen()
            second = build(settings, yesterday, today, refresh_whole=False)
        finally:
            stop.set()
        _, newest, _ = [each.result() for each in running]  # what one of them raised is raised here
    for report in (first, second):
        assert report.problems == ()
        assert {day.verdict for day in report.days} <= {"swapped", "unchanged"}
        assert len(report.days) == 2 * len(daily_marts())
    assert reconcile(settings).differences == ()
    assert newest > second.batch
    assert today in dirty_days(settings), "what came in after the batch leaves the day dirty"

    # clicks did arrive while days built, and what was there before a build stands in it
    assert LONG_AGO / 2 < before < between
    assert between <= browsers.published() <= browsers.seen(bots=True)
    assert build(settings, yesterday, today, refresh_whole=False).problems == ()
    assert browsers.seen() <= browsers.published() <= browsers.seen(bots=True)


LONG_AGO = 300


@dataclass
class Browsers:
    """Clicks on the pages of shops through the one writer: new ones, late ones, repeated ones, and a bot's.

    `busy` clicks as people do and then faster: it becomes a bot while days build.
    """

    settings: Settings
    shops: tuple[Shop, ...]
    days: tuple[date, ...]
    deliveries: int = 0
    rows: int = 0
    bot: UUID = field(default_factory=uuid4)
    busy: UUID = field(default_factory=uuid4)
    delivered: list[dict[str, object]] = field(default_factory=list)

    def _row(self, at: datetime, **more: object) -> dict[str, object]:
        self.rows += 1
        shop = self.shops[self.rows % len(self.shops)]
        visitor = uuid5(shop.event, str(self.rows % 2000))  # seconds apart: nobody else is a bot
        return {
            "click_id": uuid4(),
            "event_id": shop.event,
            "organizer_id": shop.organizer,
            "session_id": uuid5(visitor, f"{at:%F %H}"),
            "visitor_id": visitor,
            "event_type": "page_view",
            "timestamp": at,
            "page_url": "https://tickets.example/events/1",
        } | more

    def long_ago(self) -> None:
        """What had arrived long before the builds: their gates count it exactly."""
        first = moment(self.days[0], 0)
        until_then = datetime.now(UTC) - timedelta(hours=1) - first
        found = [self._row(first + until_then * number / LONG_AGO) for number in range(LONG_AGO)]
        columns: dict[str, object] = {
            name: [str(row[name]) for row in found] for name in found[0] if name != "timestamp"
        }
        happened = pa.array([row["timestamp"] for row in found], pa.timestamp("us", "UTC"))
        table = pa.table(columns | {"timestamp": happened, "ingested_at": happened})
        with closing(clickhouse.connect(self.settings.clickhouse)) as client:
            assert clickstream.write_table(client, table, history=True).rows_written == LONG_AGO

    def click(self) -> None:
        now = datetime.now(UTC)
        new = [
            *(self._row(now - timedelta(milliseconds=7 * number)) for number in range(8)),
            self._row(now, event_type="checkout_started", user_id=self.shops[0].buyer),
            *(self._row(now - timedelta(hours=hours)) for hours in (2, 9, 20, 26)),  # late
            *(self._row(now, visitor_id=self.bot, properties={"utm_source": "newsletter"}) for _ in range(8)),
            self._row(now, visitor_id=self.busy),
        ]
        with closing(clickhouse.connect(self.settings.clickhouse)) as client:
            # of the last delivery a part comes again, in another chunk
            report = clickstream.write(client, [*self.delivered[:11], *new])
        assert report.rows_rejected == 0
        self.delivered = new
        self.deliveries += 1

    def seen(self, *, bots: bool = False) -> int:
        """Page views that are there of these days, as local days of the shops."""
        return self._one(
            "select uniqExact(click_id) from analytics.events where event_type = 'page_view'"
            " and local_date in {days:Array(Date32)} and visitor_id not in {bots:Array(UUID)}",
            days=list(self.days),
            bots=[] if bots else [self.bot, self.busy],
        )

    def published(self) -> int:
        return self._one("select sum(page_views) from marts.fct_event_audience_daily")

    def _one(self, query: str, **parameters: object) -> int:
        with closing(clickhouse.connect(self.settings.clickhouse)) as client:
            return int(client.query(query, parameters).first_row[0])
