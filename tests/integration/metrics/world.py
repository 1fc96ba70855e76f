"""A small trade over some days, in two zones and two currencies, written as the application writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import NAMESPACE_OID, UUID, uuid5
from zoneinfo import ZoneInfo

from bilten_orchestration.ingestion.report import SyncReport
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.metrics.days import span
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from bilten_orchestration.stores.postgres import Connection
from tests.integration.ingestion.shop import Order, Shop

FIRST = date(2026, 3, 1)
_KOLKATA = ZoneInfo("Asia/Kolkata")
_CLICK = (
    *("click_id", "event_id", "session_id", "user_id", "visitor_id", "event_type", "timestamp", "local_date"),
    *("properties", "ingested_at"),
)


def _uuid(name: str) -> UUID:
    return uuid5(NAMESPACE_OID, name)


def moment(day: date, hour: int = 12) -> datetime:
    return datetime.combine(day, time(hour), UTC)


@dataclass
class World:
    """One shop in Kolkata (EUR), one in Auckland (JPY); an order a day in each."""

    settings: Settings
    connection: Connection
    kolkata: Shop = field(init=False)
    auckland: Shop = field(init=False)
    orders: dict[date, Order] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kolkata = Shop(self.connection, timezone="Asia/Kolkata").open()
        self.auckland = Shop(self.connection, timezone="Pacific/Auckland", currency="JPY").open()

    def trade(self, first: date, last: date) -> World:
        for number, day in enumerate(span(first, last)):
            self.orders[day] = self.kolkata.order(moment(day, 9), amount=f"{20 + number}.50", tickets=2)
            self.auckland.order(moment(day, 3), amount="1100", fee="100")
        return self

    def browse(self, first: date, last: date) -> World:
        """Three browsers in turn look at Kolkata's event and begin a checkout, an hour before the order.

        One is logged in every other time: sessions, logins and touches of each day mean something to others.
        """
        clicks: list[list[object]] = []
        for number, day in enumerate(span(first, last)):
            browser, user = f"browser {number % 3}", self.kolkata.buyer if number % 2 else UUID(int=0)
            source = {"utm_source": f"letter {number % 4}"} if number % 5 == 0 else {}
            for minutes, kind in ((0, "page_view"), (10, "page_view"), (20, "checkout_started")):
                when = moment(day, 8) + timedelta(minutes=minutes)
                clicks.append(
                    [
                        *(_uuid(f"click {when}"), self.kolkata.event, _uuid(f"{browser} {number // 2}")),
                        *(user, _uuid(browser), kind, when, when.astimezone(_KOLKATA).date(), source),
                        datetime.combine(later(day, 1), time(), UTC),
                    ]
                )
        client = clickhouse.connect(self.settings.clickhouse)
        try:
            client.insert("analytics.events", clicks, column_names=_CLICK)
        finally:
            client.close()
        return self

    def sync(self, **more: object) -> SyncReport:
        return sync(self.settings, **more)  # type: ignore[arg-type]

    def published(self, mart: str = "fct_event_sales_daily") -> list[tuple[object, ...]]:
        """Every row of a mart, in the order of its days and keys."""
        client = clickhouse.connect(self.settings.clickhouse)
        try:
            return client.query(f"select * from marts.{mart} order by all").result_rows
        finally:
            client.close()

    def digest(self, mart: str) -> list[tuple[object, ...]]:
        """Rows and content per day of any mart: states of aggregate functions cannot be ordered."""
        client = clickhouse.connect(self.settings.clickhouse)
        try:
            return client.query(
                f"select metric_date, count(), sum(cityHash64(*)) from marts.{mart}"
                " group by metric_date order by metric_date"
            ).result_rows
        finally:
            client.close()

    def cell(self, day: date, event: UUID, metric: str = "gross_sales") -> Decimal | None:
        client = clickhouse.connect(self.settings.clickhouse)
        try:
            rows = client.query(
                f"select {metric} from marts.fct_event_sales_daily"
                " where metric_date = {day:Date32} and event_id = {event:UUID}",
                {"day": day, "event": event},
            ).result_rows
        finally:
            client.close()
        return rows[0][0] if rows else None


def later(day: date, days: int) -> date:
    return day + timedelta(days=days)
