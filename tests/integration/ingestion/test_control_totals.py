"""Control totals against numbers worked out by hand from docs/metrics-rules.md."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from bilten_orchestration.ingestion import controls
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import NOON, Shop

SOLD = date(2026, 3, 10)


def _totals(ask: Ask) -> dict[date, dict[str, Decimal]]:
    found: dict[date, dict[str, Decimal]] = defaultdict(dict)
    for day, currency, metric, value in ask(
        "select t.metric_date, t.currency, t.metric, t.value from analytics.control_totals t final join "
        "(select metric_date, max(batch) as batch from analytics.control_days group by metric_date) d "
        "on d.metric_date = t.metric_date and d.batch = t.batch"
    ):
        found[day][f"{metric} {currency}"] = value
    return dict(found)


def test_every_metric_of_a_small_history(settings: Settings, shop: Shop, ask: Ask) -> None:
    order = shop.order(amount="21.00", fee="1.00", tickets=2)
    refund = shop.refund(order, NOON + timedelta(days=1), amount="10.50", fee="0.50", ticket=order.tickets[1])
    shop.set("payments.refunds", refund, status="reversed", reversed_at=NOON + timedelta(days=2))
    shop.connection.execute(
        "insert into payments.chargebacks (payment_id, amount, dispute_fee, status, charged_back_at, "
        "reversed_at) "
        "values (%s, 21, 15, 'won', %s, %s)",
        (order.payment, NOON + timedelta(days=3), NOON + timedelta(days=4)),
    )
    comp = shop.free_ticket(complimentary=True)
    shop.free_ticket()
    heir = shop.free_ticket(NOON + timedelta(days=5), transferred_from=order.tickets[0])
    shop.set("tickets.tickets", heir, status="checked_in", checked_in_at=NOON + timedelta(days=6))
    shop.set("tickets.tickets", comp, status="cancelled", cancelled_at=NOON + timedelta(days=7))
    sync(settings)

    def days(number: int) -> date:
        return SOLD + timedelta(days=number)

    d = Decimal
    assert _totals(ask) == {
        days(0): {
            "gross_sales EUR": d(21),
            "fees EUR": d(1),
            "paid_orders EUR": d(1),
            "ticket_face_sales EUR": d(20),
            "net_revenue EUR": d(20),
            "tickets_sold EUR": d(3),
            "comp_tickets EUR": d(1),
        },
        days(1): {
            "refunds EUR": d("10.5"),
            "refunded_fees EUR": d("0.5"),
            "net_revenue EUR": d(-10),
            "tickets_cancelled EUR": d(1),
        },
        days(2): {
            "refund_reversals EUR": d("10.5"),
            "refunded_fees EUR": d("-0.5"),
            "net_revenue EUR": d(10),
        },
        days(3): {"chargebacks EUR": d(21), "dispute_fees EUR": d(15), "net_revenue EUR": d(-21)},
        days(4): {"chargeback_reversals EUR": d(21), "net_revenue EUR": d(21)},
        days(6): {"check_ins EUR": d(1)},
        days(7): {"tickets_cancelled EUR": d(1)},
    }


def test_a_soft_deleted_payment_counts_nowhere(settings: Settings, shop: Shop, ask: Ask) -> None:
    order = shop.order()
    shop.refund(order, NOON + timedelta(days=1), ticket=order.tickets[0])
    shop.set("tickets.tickets", order.tickets[0], status="checked_in", checked_in_at=NOON + timedelta(days=6))
    sync(settings)
    assert set(_totals(ask)) == {SOLD, SOLD + timedelta(days=1), SOLD + timedelta(days=6)}
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    sync(settings)
    assert _totals(ask) == {}


def test_a_refund_of_a_soft_deleted_payment_cancels_no_ticket(
    settings: Settings, shop: Shop, ask: Ask
) -> None:
    """The last ticket of a transfer has no payment, so that it counts whatever became of the first one's."""

    def cancelled() -> dict[date, Decimal]:
        return {
            day: cells["tickets_cancelled EUR"]
            for day, cells in _totals(ask).items()
            if "tickets_cancelled EUR" in cells
        }

    order, other = shop.order(), shop.order()
    heir = shop.free_ticket(NOON + timedelta(days=1), transferred_from=order.tickets[0])
    twice = shop.free_ticket(NOON + timedelta(days=1))
    later = shop.free_ticket()
    shop.refund(order, NOON + timedelta(days=3), amount="5.00", ticket=heir)
    with shop.by_hand("payments.refunds"):
        shop.refund(order, NOON + timedelta(days=3), amount="5.00", ticket=twice)
        shop.refund(other, NOON + timedelta(days=4), ticket=twice)
        shop.refund(order, NOON + timedelta(days=3), amount="1.00", ticket=later)
    shop.set("tickets.tickets", later, status="cancelled", cancelled_at=NOON + timedelta(days=5))
    sync(settings)
    assert cancelled() == {SOLD + timedelta(days=3): 3}

    shop.set("payments.payments", order.payment, deleted_at=NOON)
    sync(settings)
    counted = {SOLD + timedelta(days=4): Decimal(1), SOLD + timedelta(days=5): Decimal(1)}
    assert cancelled() == counted, "of the days that it touched"
    sync(settings, full=True)
    assert cancelled() == counted


def test_days_are_those_of_the_organization_and_single_days_equal_the_whole(
    settings: Settings, shop: Shop, ask: Ask
) -> None:
    zones = {
        "Pacific/Honolulu": "JPY",
        "Pacific/Tongatapu": "KWD",
        "Asia/Kathmandu": "EUR",
        "Europe/Berlin": "USD",
    }
    # 23 and 25 hour days of Berlin among them
    moments = [datetime(2026, 3, 28, 22, 30, tzinfo=UTC) + timedelta(hours=3 * n) for n in range(20)]
    moments += [datetime(2026, 10, 24, 21, 30, tzinfo=UTC) + timedelta(hours=3 * n) for n in range(20)]
    sync(settings)
    for zone, currency in zones.items():
        local = Shop(shop.connection, timezone=zone, currency=currency).open()
        for at in moments:
            local.order(at, amount="5", fee="0")
    sync(settings)
    by_ranges = _totals(ask)
    assert sum(cells.get("gross_sales JPY", Decimal(0)) for cells in by_ranges.values()) == 200
    berlin = ask(
        "select captured_date, count() from bilten_raw.payments_payments final where currency = 'USD' "
        "and captured_date in ('2026-03-29', '2026-10-25') group by 1 order by 1"
    )
    assert berlin == [(date(2026, 3, 29), 7), (date(2026, 10, 25), 8)]
    sync(settings, full=True)
    assert _totals(ask) == by_ranges


def test_every_day_up_to_the_day_after_tomorrow_has_evidence(
    settings: Settings, shop: Shop, ask: Ask
) -> None:
    report = sync(settings)
    first, last, days = ask(
        "select min(metric_date), max(metric_date), count() from analytics.control_days final"
    )[0]
    assert first == date.fromisoformat(settings.metrics.first_day)
    assert last == report.as_of.date() + timedelta(days=2)
    assert days == (last - first).days + 1
    again = sync(settings, control_days=[SOLD])
    assert again.control_days == 1
    assert ask(
        "select cells, batch from analytics.control_days final where metric_date = '2026-03-10' order by 2"
    ) == [
        (0, report.batch),
        (0, again.batch),
    ]


def test_superseded_totals_go_once_they_are_many_and_the_newest_stay(
    settings: Settings, shop: Shop, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held() -> tuple[int, int]:
        totals = ask("select count() from analytics.control_totals")
        days = ask("select count() - uniqExact(metric_date) from analytics.control_days")
        return totals[0][0], days[0][0]

    for _ in range(3):
        shop.order()
        sync(settings)
    before, (rows, superseded_days) = _totals(ask), held()
    live = sum(map(len, before.values()))
    assert rows > 2 * live
    assert superseded_days > 0

    sync(settings)
    assert held() >= (rows, superseded_days), "so few stay"

    monkeypatch.setattr(controls, "_SUPERSEDED_ROWS", 0)
    sync(settings)
    assert held() == (live, 0)
    assert _totals(ask) == before
    sync(settings)
    assert held() == (live, 0)
