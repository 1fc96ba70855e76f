"""A small trade over some days, in two zones and two currencies, written as the application writes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from bilten_orchestration.ingestion.report import SyncReport
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.metrics.days import span
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from bilten_orchestration.stores.postgres import Connection
from tests.integration.ingestion.shop import Order, Shop

FIRST = date(2026, 3, 1)


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
