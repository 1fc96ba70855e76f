"""Which days a change touches: those whose numbers it changes, and no others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from bilten_orchestration.ingestion import clickstream
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import NOON, Order, Shop

SOLD, SCANNED, REFUNDED = date(2026, 3, 10), date(2026, 6, 1), date(2026, 3, 20)


@pytest.fixture
def order(settings: Settings, shop: Shop) -> Order:
    """Sold on 10 March, one ticket scanned on 1 June, the other refunded on 20 March."""
    order = shop.order(tickets=2)
    shop.set(
        "tickets.tickets",
        order.tickets[0],
        status="checked_in",
        checked_in_at=datetime(2026, 6, 1, 18, tzinfo=UTC),
    )
    shop.refund(order, NOON + timedelta(days=10), amount="5.00", ticket=order.tickets[1])
    sync(settings)
    return order


def test_a_refund_touches_its_own_day_only(settings: Settings, shop: Shop, order: Order) -> None:
    shop.refund(order, NOON + timedelta(days=30), amount="2.00")
    shop.set("payments.payments", order.payment, status="partially_refunded")
    assert set(sync(settings).touched_days) == {date(2026, 4, 9)}


def test_a_status_or_a_counter_touches_nothing(settings: Settings, shop: Shop, order: Order) -> None:
    shop.set("payments.payments", order.payment, status="disputed")
    shop.set("tickets.ticket_types", shop.ticket_type, sold=2)
    shop.set("events.events", shop.event, title="Another title")
    report = sync(settings)
    assert set(report.rows) == {"payments.payments", "tickets.ticket_types", "events.events"}
    assert dict(report.touched_days) == {}


def test_a_soft_deleted_payment_takes_the_days_of_its_refunds_and_tickets_along(
    settings: Settings, shop: Shop, order: Order
) -> None:
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    assert set(sync(settings).touched_days) == {SOLD, SCANNED, REFUNDED}


def test_a_ticket_that_moves_to_another_day_touches_both(
    settings: Settings, shop: Shop, order: Order
) -> None:
    shop.set("tickets.tickets", order.tickets[0], checked_in_at=datetime(2026, 6, 2, 1, tzinfo=UTC))
    assert set(sync(settings).touched_days) == {SCANNED, date(2026, 6, 2)}


def test_a_cancellation_before_the_refund_moves_the_day(settings: Settings, shop: Shop, order: Order) -> None:
    shop.set("tickets.tickets", order.tickets[1], status="cancelled", cancelled_at=NOON + timedelta(days=2))
    touched = set(sync(settings).touched_days)
    assert {date(2026, 3, 12), REFUNDED} <= touched
    assert SCANNED not in touched


def test_a_transfer_touches_the_day_on_which_the_first_ticket_was_cancelled(
    settings: Settings, shop: Shop, order: Order
) -> None:
    shop.free_ticket(NOON + timedelta(days=15), transferred_from=order.tickets[1])
    assert {REFUNDED, date(2026, 3, 25)} <= set(sync(settings).touched_days)


def test_a_corrected_item_touches_the_day_of_its_payment(
    settings: Settings, shop: Shop, order: Order
) -> None:
    with shop.connection.transaction():
        shop.connection.execute(
            "delete from payments.payment_items where ticket_id = %s", (order.tickets[1],)
        )
        shop.connection.execute(
            "update payments.payment_items set amount = amount * 2 where ticket_id = %s", (order.tickets[0],)
        )
    assert set(sync(settings).touched_days) == {SOLD}


def test_the_currency_of_a_ticket_type_touches_every_day_of_its_tickets(
    settings: Settings, shop: Shop, order: Order
) -> None:
    shop.free_ticket(NOON + timedelta(days=5))
    sync(settings)
    with shop.by_hand("tickets.ticket_types"):
        shop.set("tickets.ticket_types", shop.ticket_type, currency="USD")
    assert {SOLD, SCANNED, REFUNDED, date(2026, 3, 15)} <= set(sync(settings).touched_days)


def test_another_organizer_touches_all_days_of_the_event_and_of_its_clicks(
    settings: Settings, shop: Shop, order: Order
) -> None:
    _click(settings, shop, datetime(2026, 2, 1, 12, tzinfo=UTC))
    shop.set("events.events", shop.event, organizer_id=shop.buyer)
    assert set(sync(settings).touched_days) == {SOLD, SCANNED, REFUNDED, date(2026, 2, 1)}


def test_a_changed_zone_reads_the_rows_again_and_moves_the_clicks(
    settings: Settings, shop: Shop, order: Order, ask: Ask, equal: Callable[[], None]
) -> None:
    late = shop.order(datetime(2026, 3, 15, 23, 30, tzinfo=UTC))
    _click(settings, shop, datetime(2026, 2, 1, 20, tzinfo=UTC))
    sync(settings)
    shop.set("users.organizations", shop.organization, timezone="Pacific/Auckland")
    report = sync(settings)
    assert report.rows["payments.payments"] == 2
    assert report.clicks_moved == 1
    before = {SOLD, REFUNDED, SCANNED, date(2026, 3, 15), date(2026, 2, 1)}
    after = {date(2026, 3, 11), date(2026, 3, 21), date(2026, 6, 2), date(2026, 3, 16), date(2026, 2, 2)}
    assert set(report.touched_days) == before | after
    assert ask(
        "select captured_date from bilten_raw.payments_payments final where id = {id:UUID}",
        id=str(late.payment),
    ) == [(date(2026, 3, 16),)]
    assert ask("select local_date from analytics.events final") == [(date(2026, 2, 2),)]
    equal()
    assert dict(sync(settings).touched_days) == {}


def test_an_event_that_changes_its_organization_takes_that_zone(
    settings: Settings, shop: Shop, order: Order, ask: Ask, equal: Callable[[], None]
) -> None:
    other = uuid4()
    shop.connection.execute(
        "insert into users.organizations (id, name, timezone) values (%s, 'West', 'Pacific/Honolulu')",
        (other,),
    )
    night = shop.order(datetime(2026, 3, 16, 2, tzinfo=UTC))
    sync(settings)
    shop.set("events.events", shop.event, organization_id=other)
    touched = set(sync(settings).touched_days)
    assert {SOLD, SCANNED, REFUNDED, date(2026, 3, 16), date(2026, 3, 15)} <= touched
    assert ask(
        "select captured_date from bilten_raw.payments_payments final where id = {id:UUID}",
        id=str(night.payment),
    ) == [(date(2026, 3, 15),)]
    equal()


def test_a_day_that_only_clicks_came_to_gets_the_totals_of_everybody(
    settings: Settings, shop: Shop, order: Order, ask: Ask
) -> None:
    neighbour = Shop(shop.connection).open()
    neighbour.order(datetime(2026, 2, 3, 12, tzinfo=UTC))
    sync(settings)
    _click(settings, shop, datetime(2026, 2, 2, 20, tzinfo=UTC))
    shop.set("users.organizations", shop.organization, timezone="Pacific/Auckland")
    report = sync(settings)
    assert report.touched_days[date(2026, 2, 3)] == "clicks on another day"
    assert SOLD in report.touched_days
    assert ask(
        "select argMax(cells, batch), max(batch) from analytics.control_days where metric_date = '2026-02-03'"
    ) == [(6, report.batch)]
    assert ask(
        "select value from analytics.control_totals where metric_date = '2026-02-03' "
        "and metric = 'gross_sales' and batch = {batch:UInt64}",
        batch=report.batch,
    ) == [(Decimal(11),)]


def _click(settings: Settings, shop: Shop, at: datetime) -> None:
    client = clickhouse.connect(settings.clickhouse)
    report = clickstream.write(
        client,
        [
            {
                "click_id": uuid4(),
                "event_id": shop.event,
                "session_id": uuid4(),
                "user_id": UUID(int=0),
                "visitor_id": uuid4(),
                "organizer_id": shop.organizer,
                "event_type": "page_view",
                "event_name": "event_page",
                "timestamp": at,
                "properties": {},
                "user_agent": "Mozilla/5.0",
                "ip_address": "192.0.2.1",
                "referrer": "",
                "page_url": "https://example.org/e",
            }
        ],
        now=at + timedelta(hours=1),
    )
    assert (report.rows_written, report.rows_rejected) == (1, 0), report
    client.close()
