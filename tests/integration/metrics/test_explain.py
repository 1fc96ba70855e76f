"""Every metric explained once: the cell, its postings and the rows of PostgreSQL say the same.

What a cell must be is worked out by hand from docs/metrics-rules.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

from bilten_orchestration.ingestion import controls
from bilten_orchestration.metrics import manifest
from bilten_orchestration.metrics.build import build
from bilten_orchestration.metrics.explain import Fact, explain
from bilten_orchestration.metrics.explain_sql import METRICS
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.shop import Order, Shop
from tests.integration.metrics.world import FIRST, World, later, moment

DAY, NEXT = FIRST, later(FIRST, 1)

# of the shop on DAY: what, and how many facts make it up
EXPECTED: dict[str, tuple[Decimal, int]] = {
    # 24 + 22 + 22; the deleted payments are none
    "gross_sales": (Decimal(68), 3),
    "fees": (Decimal(6), 3),
    "tax": (Decimal(4), 3),
    "paid_orders": (Decimal(3), 3),
    "ticket_face_sales": (Decimal(58), 5),
    # 12 with a fee and a tax of 1; 22 with a fee of 2 and a tax of 1, which came back
    "refunds": (Decimal(34), 2),
    "refund_reversals": (Decimal(22), 1),
    "refunded_fees": (Decimal(1), 3),
    "refunded_tax": (Decimal(1), 3),
    "chargebacks": (Decimal(44), 2),
    "chargeback_reversals": (Decimal(22), 1),
    "dispute_fees": (Decimal(30), 2),
    # 68 - 6 - 4 - (34 - 22) + 1 + 1 - 44 + 22
    "net_revenue": (Decimal(26), 9),
    # five that were paid for and two free ones
    "tickets_sold": (Decimal(7), 7),
    "comp_tickets": (Decimal(2), 2),
    # by a refund, by hand before the refund of the day after, and a complimentary one
    "tickets_cancelled": (Decimal(3), 3),
    # paid, handed on, complimentary
    "check_ins": (Decimal(3), 3),
    # one type, of which the shop has offered as many from the beginning
    "capacity": (Decimal(1000), 1),
    "ticket_type_tickets_sold": (Decimal(7), 7),
    "ticket_type_comp_tickets": (Decimal(2), 2),
    "ticket_type_tickets_cancelled": (Decimal(3), 3),
    "ticket_type_check_ins": (Decimal(3), 3),
    "traffic_paid_orders": (Decimal(3), 3),
    "traffic_gross_sales": (Decimal(68), 3),
    "buyers": (Decimal(1), 1),
    # of world.browse: two views and a checkout by one browser, which nobody had logged in with
    "page_views": (Decimal(2), 2),
    "visitors": (Decimal(1), 1),
    "sessions": (Decimal(1), 1),
    "traffic_sessions": (Decimal(1), 1),
    "funnel_viewed": (Decimal(1), 1),
    "funnel_checkout": (Decimal(1), 1),
    "funnel_purchased": (Decimal(0), 0),
}
# Of an organization, not of an event: its states merge those of its events, which are explained.
OF_ORGANIZATIONS = {"fct_organization_audience_daily"}


def test_every_metric_is_explained_and_adds_up(world: World) -> None:
    assert EXPECTED.keys() == METRICS.keys() >= set(controls.METRICS)
    shop = world.kolkata
    deleted = _trade(shop)
    shop.order(moment(NEXT), amount="11", fee="1")
    world.browse(DAY, NEXT).sync()
    for order in deleted:
        shop.set("payments.payments", order.payment, deleted_at=moment(NEXT))
    world.sync()
    report = build(world.settings, DAY, NEXT, refresh_whole=False)
    assert report.problems == (), "PostgreSQL and dbt agree on all of it"
    for metric, (value, facts) in EXPECTED.items():
        found = explain(world.settings, DAY, shop.event, metric)
        assert found.equal, (metric, found)
        assert (found.cell.value, len(found.rows), len(found.postings)) == (value, facts, facts), metric
        assert found.cell.mart == METRICS[metric].mart
        assert _values(found.rows) == _values(found.postings), metric
    few = explain(world.settings, DAY, shop.event, "tickets_sold", limit=2)
    assert (few.equal, len(few.rows), len(few.postings), few.rows_count, few.sum) == (True, 2, 2, 7, 7)
    the_day_after = {metric: explain(world.settings, NEXT, shop.event, metric) for metric in METRICS}
    assert {metric for metric, found in the_day_after.items() if not found.equal} == set()
    assert {metric: found.sum for metric, found in the_day_after.items() if found.sum} == {
        "refunds": Decimal(1),
        "net_revenue": Decimal(9),
        **dict.fromkeys(("gross_sales", "traffic_gross_sales"), Decimal(11)),
        "ticket_face_sales": Decimal(10),
        **dict.fromkeys(("fees", "paid_orders", "traffic_paid_orders", "buyers"), Decimal(1)),
        **dict.fromkeys(("tickets_sold", "ticket_type_tickets_sold"), Decimal(1)),
        "tickets_cancelled": Decimal(1),
        "capacity": Decimal(1000),
        "ticket_type_tickets_cancelled": Decimal(1),
        **dict.fromkeys(("visitors", "sessions", "traffic_sessions"), Decimal(1)),
        # by a browser that the buyer was logged in with
        **dict.fromkeys(("funnel_viewed", "funnel_checkout", "funnel_purchased"), Decimal(1)),
        "page_views": Decimal(2),
    }


def test_every_metric_of_every_mart_of_events_has_an_explanation(parsed_project: Path) -> None:
    """A new column of a mart without one fails here."""
    graph = manifest.read(manifest.prepare(Settings(home=parsed_project)))
    explained = {(metric.mart, metric.column or name) for name, metric in METRICS.items()}
    for mart in manifest.marts(graph):
        if mart.name in OF_ORGANIZATIONS:
            continue
        node = graph["nodes"][mart.unique_id]
        keys = {"metric_date", *node["config"]["meta"]["grain"]}
        assert {(mart.name, column) for column in node["columns"] if column not in keys} == {
            each for each in explained if each[0] == mart.name
        }


def _trade(shop: Shop) -> tuple[Order, Order]:
    """A day with every kind of fact, and a little on the day after; two orders that will be deleted."""
    first = _taxed(shop, shop.order(moment(DAY), amount="22", fee="2", tickets=2), tax=2)
    second = _taxed(shop, shop.order(moment(DAY), amount="21", fee="2", tickets=2), tax=1)
    third = _taxed(shop, shop.order(moment(DAY), amount="21", fee="2"), tax=1)

    part = shop.refund(first, moment(DAY, 13), amount="12", fee="1", ticket=first.tickets[0])
    shop.set("payments.refunds", part, tax_amount=1)
    back = shop.refund(second, moment(DAY, 13), amount="22", fee="2")
    shop.set("payments.refunds", back, tax_amount=1, status="reversed", reversed_at=moment(DAY, 14))
    _charge_back(shop, second)
    won = _charge_back(shop, third)
    shop.set("payments.chargebacks", won, status="won", reversed_at=moment(DAY, 15))

    free, comp, scanned = (
        shop.free_ticket(moment(DAY)),
        shop.free_ticket(moment(DAY), complimentary=True),
        shop.free_ticket(moment(DAY), complimentary=True),
    )
    shop.free_ticket(moment(DAY))
    heir = shop.free_ticket(moment(DAY, 13), transferred_from=second.tickets[0])
    for ticket in (first.tickets[1], heir, scanned):
        shop.set("tickets.tickets", ticket, status="checked_in", checked_in_at=moment(DAY, 17))
    # the one that was handed on cannot be cancelled
    for ticket in (free, comp, second.tickets[0]):
        shop.set("tickets.tickets", ticket, status="cancelled", cancelled_at=moment(DAY, 16))
    with shop.by_hand("payments.refunds"):  # of a ticket that nothing was paid for
        shop.refund(first, moment(NEXT), amount="1", ticket=free)
    shop.set("tickets.tickets", third.tickets[0], status="cancelled", cancelled_at=moment(NEXT))

    # all of it goes with the payment: money, tickets, and the cancellation of a ticket that is not its own
    mistaken = shop.order(moment(DAY), amount="11", fee="1")
    shop.set("tickets.tickets", mistaken.tickets[0], status="checked_in", checked_in_at=moment(DAY, 17))
    shop.refund(mistaken, moment(DAY, 13), amount="2")
    _charge_back(shop, mistaken)
    handed_on = shop.order(moment(DAY), amount="11", fee="1")
    last = shop.free_ticket(moment(DAY, 13), transferred_from=handed_on.tickets[0])
    shop.refund(handed_on, moment(DAY, 14), amount="11", ticket=last)
    return mistaken, handed_on


def _taxed(shop: Shop, order: Order, *, tax: int) -> Order:
    with shop.connection.transaction():
        shop.connection.execute(
            "update payments.payments set amount = amount + %s, tax_amount = %s where id = %s",
            (tax, tax, order.payment),
        )
        shop.connection.execute(
            "insert into payments.payment_items (payment_id, item_type, amount) values (%s, 'tax', %s)",
            (order.payment, tax),
        )
    return order


def _charge_back(shop: Shop, order: Order) -> UUID:
    chargeback = uuid4()
    shop.connection.execute(
        "insert into payments.chargebacks (id, payment_id, amount, dispute_fee, status, charged_back_at) "
        "select %s, id, amount, 15, 'open', %s from payments.payments where id = %s",
        (chargeback, moment(DAY, 14), order.payment),
    )
    return chargeback


def _values(facts: Iterable[Fact]) -> list[tuple[str, Decimal]]:
    return sorted((fact.id, fact.value) for fact in facts)
