"""Causes of touched days, each alone: every fact of every synced table, and every way to a child's day.

A case is a small history: what is there before the first batch, one change, and then the days that this
change touches, to the day. It is built so that no other cause leads to at least one of them: without the
fact or the entry that it proves, that day would stay wrong. One list, long as the declarations that it
follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID, uuid4

from tests.integration.ingestion.shop import NOON, Order, Shop

History = Iterator[set[date]]


@dataclass(frozen=True)
class Case:
    """`proves` is the day column of a fact of `source`, or the place of an entry of touched._CHILDREN."""

    source: str
    proves: str | int
    history: Callable[[Shop], History]


CASES: list[Case] = []


def proves(source: str, what: str | int) -> Callable[[Callable[[Shop], History]], Callable[[Shop], History]]:
    def add(history: Callable[[Shop], History]) -> Callable[[Shop], History]:
        CASES.append(Case(source, what, history))
        return history

    return add


def day(number: int) -> date:
    return moment(number).date()


def moment(number: int) -> datetime:
    """Noon (UTC) so many days after orders are placed."""
    return NOON + timedelta(days=number)


# facts


@proves("payments.payments", "captured_date")
def another_buyer(shop: Shop) -> History:
    order = shop.order()
    yield set()
    shop.set("payments.payments", order.payment, user_id=shop.organizer)
    yield {day(0)}


@proves("payments.payments", "captured_date")
def a_payment_deleted(shop: Shop) -> History:
    order = shop.order()
    yield set()
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    yield {day(0)}


@proves("tickets.tickets", "purchased_date")
def a_free_ticket(shop: Shop) -> History:
    yield set()
    shop.free_ticket(moment(5))
    yield {day(5)}


@proves("tickets.tickets", "purchased_date")
def a_free_ticket_that_becomes_complimentary(shop: Shop) -> History:
    ticket = shop.free_ticket(moment(5))
    yield set()
    shop.set("tickets.tickets", ticket, is_complimentary=True)
    yield {day(5)}


@proves("tickets.tickets", "purchased_date")
def a_free_ticket_that_turns_out_to_be_a_transfer(shop: Shop) -> History:
    order, ticket = shop.order(), shop.free_ticket(moment(5))
    yield set()
    shop.set("tickets.tickets", ticket, transferred_from=order.tickets[0])
    yield {day(5)}


@proves("tickets.tickets", "checked_in_date")
def tickets_of_another_type(shop: Shop) -> History:
    scanned, cancelled = shop.free_ticket(moment(1)), shop.free_ticket(moment(2))
    shop.set("tickets.tickets", scanned, status="checked_in", checked_in_at=moment(9))
    _cancel(shop, cancelled, 3)
    other = _another_type(shop)
    yield set()
    for ticket in (scanned, cancelled):
        shop.set("tickets.tickets", ticket, ticket_type_id=other)
    yield {day(1), day(2), day(3), day(9)}


@proves("tickets.tickets", "checked_in_date")
def tickets_that_move_to_a_payment(shop: Shop) -> History:
    scanned, cancelled = shop.free_ticket(moment(1)), shop.free_ticket(moment(1))
    shop.set("tickets.tickets", scanned, status="checked_in", checked_in_at=moment(9))
    _cancel(shop, cancelled, 3)
    order = shop.order()
    yield set()
    for ticket in (scanned, cancelled):
        shop.set("tickets.tickets", ticket, payment_id=order.payment)
    yield {day(0), day(1), day(3), day(9)}


@proves("tickets.tickets", "checked_in_date")
def a_ticket_scanned(shop: Shop) -> History:
    order = shop.order()
    yield set()
    shop.set("tickets.tickets", order.tickets[0], status="checked_in", checked_in_at=moment(9))
    yield {day(9)}


@proves("tickets.tickets", "cancelled_date")
def a_free_ticket_cancelled(shop: Shop) -> History:
    ticket = shop.free_ticket()
    yield set()
    _cancel(shop, ticket, 2)
    yield {day(2)}


@proves("payments.refunds", "refunded_date")
def a_refund(shop: Shop) -> History:
    order = shop.order()
    yield set()
    shop.refund(order, moment(5))
    yield {day(5)}


@proves("payments.refunds", "refunded_date")
def a_refund_that_was_pending(shop: Shop) -> History:
    order = shop.order()
    refund = uuid4()
    shop.connection.execute(
        "insert into payments.refunds (id, payment_id, amount, status) values (%s, %s, 5, 'pending')",
        (refund, order.payment),
    )
    yield set()
    shop.set("payments.refunds", refund, status="succeeded", refunded_at=moment(5))
    yield {day(5)}


@proves("payments.refunds", "reversed_date")
def a_refund_reversed(shop: Shop) -> History:
    refund = shop.refund(shop.order(), moment(5))
    yield set()
    shop.set("payments.refunds", refund, status="reversed", reversed_at=moment(8))
    yield {day(8)}


@proves("payments.refunds", "reversed_date")
def a_reversed_refund_of_another_amount(shop: Shop) -> History:
    refund = shop.refund(shop.order(), moment(5))
    shop.set("payments.refunds", refund, status="reversed", reversed_at=moment(8))
    yield set()
    shop.set("payments.refunds", refund, amount="7.00")
    yield {day(5), day(8)}


@proves("payments.refunds", "reversed_date")
def a_reversed_refund_of_another_fee(shop: Shop) -> History:
    refund = shop.refund(shop.order(), moment(5))
    shop.set("payments.refunds", refund, status="reversed", reversed_at=moment(8))
    yield set()
    shop.set("payments.refunds", refund, fee_amount="1.00")
    yield {day(5), day(8)}


@proves("payments.refunds", "reversed_date")
def a_reversed_refund_of_another_tax(shop: Shop) -> History:
    refund = shop.refund(shop.order(), moment(5))
    shop.set("payments.refunds", refund, status="reversed", reversed_at=moment(8))
    yield set()
    shop.set("payments.refunds", refund, tax_amount="1.00")
    yield {day(5), day(8)}


@proves("payments.refunds", "reversed_date")
def a_reversed_refund_of_another_payment(shop: Shop) -> History:
    order, other = shop.order(), shop.order(moment(1))
    refund = shop.refund(order, moment(5))
    shop.set("payments.refunds", refund, status="reversed", reversed_at=moment(8))
    yield set()
    shop.set("payments.refunds", refund, payment_id=other.payment)
    yield {day(5), day(8)}


@proves("payments.chargebacks", "charged_back_date")
def a_chargeback(shop: Shop) -> History:
    order = shop.order()
    yield set()
    _charge_back(shop, order, 5)
    yield {day(5)}


@proves("payments.chargebacks", "charged_back_date")
def another_dispute_fee(shop: Shop) -> History:
    chargeback = _charge_back(shop, shop.order(), 5, reversed_after=8)
    yield set()
    shop.set("payments.chargebacks", chargeback, dispute_fee="20.00")
    yield {day(5)}


@proves("payments.chargebacks", "reversed_date")
def a_chargeback_reversed(shop: Shop) -> History:
    chargeback = _charge_back(shop, shop.order(), 5)
    yield set()
    shop.set("payments.chargebacks", chargeback, status="won", reversed_at=moment(8))
    yield {day(8)}


@proves("payments.chargebacks", "reversed_date")
def a_reversed_chargeback_deleted(shop: Shop) -> History:
    chargeback = _charge_back(shop, shop.order(), 5, reversed_after=8)
    yield set()
    shop.delete("payments.chargebacks", chargeback)
    yield {day(5), day(8)}


@proves("payments.chargebacks", "reversed_date")
def a_reversed_chargeback_of_another_amount(shop: Shop) -> History:
    chargeback = _charge_back(shop, shop.order(), 5, reversed_after=8)
    yield set()
    shop.set("payments.chargebacks", chargeback, amount="9.00")
    yield {day(5), day(8)}


@proves("payments.chargebacks", "reversed_date")
def a_reversed_chargeback_of_another_payment(shop: Shop) -> History:
    order, other = shop.order(), shop.order(moment(1))
    chargeback = _charge_back(shop, order, 5, reversed_after=8)
    yield set()
    shop.set("payments.chargebacks", chargeback, payment_id=other.payment)
    yield {day(5), day(8)}


# a payment ceases to count


@proves("payments.payments", 0)
def a_payment_deleted_after_its_refund(shop: Shop) -> History:
    order = shop.order()
    refund = shop.refund(order, moment(5))
    shop.set("payments.refunds", refund, status="reversed", reversed_at=moment(8))
    yield set()
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    yield {day(0), day(5), day(8)}


@proves("payments.payments", 1)
def a_payment_deleted_after_its_chargeback(shop: Shop) -> History:
    order = shop.order()
    _charge_back(shop, order, 5, reversed_after=8)
    yield set()
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    yield {day(0), day(5), day(8)}


@proves("payments.payments", 2)
def a_payment_deleted_whose_tickets_were_scanned_and_cancelled(shop: Shop) -> History:
    order = shop.order(tickets=2)
    shop.set("tickets.tickets", order.tickets[0], status="checked_in", checked_in_at=moment(9))
    _cancel(shop, order.tickets[1], 2)
    yield set()
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    yield {day(0), day(2), day(9)}


@proves("payments.payments", 2)
def a_payment_captured_after_its_ticket_was_scanned(shop: Shop) -> History:
    payment, ticket = uuid4(), shop.free_ticket(moment(-1))
    with shop.connection.transaction():
        shop.connection.execute(
            "insert into payments.payments (id, user_id, event_id, amount, currency, payment_method) "
            "values (%s, %s, %s, 10, 'EUR', 'card')",
            (payment, shop.buyer, shop.event),
        )
        shop.set("tickets.tickets", ticket, payment_id=payment, status="checked_in", checked_in_at=moment(0))
        shop.connection.execute(
            "insert into payments.payment_items (payment_id, ticket_id, item_type, amount) values "
            "(%s, %s, 'ticket', 10)",
            (payment, ticket),
        )
    yield set()
    shop.set("payments.payments", payment, status="captured", captured_at=moment(4))
    yield {day(0), day(4)}


@proves("payments.payments", 3)
def a_payment_deleted_whose_refund_came_before_the_cancellation(shop: Shop) -> History:
    order = shop.order()
    heir = shop.free_ticket(moment(1), transferred_from=order.tickets[0])
    shop.refund(order, moment(3), ticket=heir)
    _cancel(shop, heir, 5)
    yield set()
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    yield {day(0), day(3), day(5)}


@proves("payments.payments", 4)
def a_payment_deleted_whose_refund_was_the_first_of_a_ticket(shop: Shop) -> History:
    order, other = shop.order(), shop.order(moment(1))
    ticket = shop.free_ticket(moment(1))
    with shop.by_hand("payments.refunds"):
        shop.refund(order, moment(3), ticket=ticket)
        shop.refund(other, moment(5), ticket=ticket)
    yield set()
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    yield {day(0), day(3), day(5)}


@proves("payments.payment_items", 0)
def items_corrected(shop: Shop) -> History:
    order = shop.order(tickets=2)
    yield set()
    with shop.connection.transaction():
        for ticket, amount in zip(order.tickets, ("4.00", "6.00"), strict=True):
            shop.connection.execute(
                "update payments.payment_items set amount = %s where ticket_id = %s", (amount, ticket)
            )
    yield {day(0)}


@proves("payments.payment_items", 0)
def an_item_that_was_no_ticket(shop: Shop) -> History:
    order = shop.order()
    yield set()
    shop.connection.execute(
        "update payments.payment_items set item_type = 'addon' where ticket_id = %s", (order.tickets[0],)
    )
    yield {day(0)}


@proves("payments.payment_items", 0)
def an_item_of_another_ticket(shop: Shop) -> History:
    order, ticket = shop.order(), shop.free_ticket(moment(1))
    shop.set("tickets.tickets", ticket, payment_id=order.payment)
    yield set()
    shop.connection.execute(
        "update payments.payment_items set ticket_id = %s where ticket_id = %s", (ticket, order.tickets[0])
    )
    yield {day(0)}


# a ticket is cancelled at another moment


@proves("payments.refunds", 0)
def a_refund_before_the_cancellation(shop: Shop) -> History:
    order = shop.order()
    _cancel(shop, order.tickets[0], 5)
    yield set()
    shop.refund(order, moment(3), ticket=order.tickets[0])
    yield {day(3), day(5)}


@proves("payments.refunds", 0)
def a_refund_that_is_said_to_be_for_a_cancelled_ticket(shop: Shop) -> History:
    order = shop.order()
    _cancel(shop, order.tickets[0], 5)
    refund = shop.refund(order, moment(3))
    yield set()
    shop.set("payments.refunds", refund, ticket_id=order.tickets[0])
    yield {day(3), day(5)}


@proves("payments.refunds", 0)
def a_pending_refund_posted_before_the_cancellation(shop: Shop) -> History:
    order = shop.order()
    _cancel(shop, order.tickets[0], 5)
    refund = uuid4()
    shop.connection.execute(
        "insert into payments.refunds (id, payment_id, ticket_id, amount, status) "
        "values (%s, %s, %s, 5, 'pending')",
        (refund, order.payment, order.tickets[0]),
    )
    yield set()
    shop.set("payments.refunds", refund, status="succeeded", refunded_at=moment(3))
    yield {day(3), day(5)}


@proves("payments.refunds", 0)
def a_refund_that_moves_to_a_payment_that_counts(shop: Shop) -> History:
    deleted, order = shop.order(), shop.order()
    shop.set("payments.payments", deleted.payment, deleted_at=NOON)
    ticket = shop.free_ticket()
    with shop.by_hand("payments.refunds"):
        refund = shop.refund(deleted, moment(3), ticket=ticket)
    _cancel(shop, ticket, 5)
    yield set()
    with shop.by_hand("payments.refunds"):
        shop.set("payments.refunds", refund, payment_id=order.payment)
    yield {day(3), day(5)}


@proves("payments.refunds", 1)
def an_earlier_refund_of_the_same_ticket(shop: Shop) -> History:
    order = shop.order()
    shop.refund(order, moment(5), amount="2.00", ticket=order.tickets[0])
    yield set()
    shop.refund(order, moment(3), amount="2.00", ticket=order.tickets[0])
    yield {day(3), day(5)}


@proves("tickets.tickets", 0)
def a_ticket_added_to_a_payment(shop: Shop) -> History:
    order = shop.order()
    ticket = shop.free_ticket(moment(2))
    yield set()
    shop.set("tickets.tickets", ticket, payment_id=order.payment)
    yield {day(0), day(2)}


@proves("tickets.tickets", 0)
def a_paid_ticket_of_another_type(shop: Shop) -> History:
    order, other = _order_of_an_earlier_ticket(shop), _another_type(shop)
    yield set()
    shop.set("tickets.tickets", order.tickets[0], ticket_type_id=other)
    yield {day(-2), day(0)}


@proves("tickets.tickets", 1)
def a_cancellation_before_the_refund(shop: Shop) -> History:
    order = shop.order()
    shop.refund(order, moment(5), ticket=order.tickets[0])
    yield set()
    _cancel(shop, order.tickets[0], 3)
    # the ticket changed, so that of its payment is asked as well
    yield {day(0), day(3), day(5)}


@proves("tickets.tickets", 2)
def a_cancelled_ticket_handed_on(shop: Shop) -> History:
    ticket = shop.free_ticket()
    _cancel(shop, ticket, 3)
    yield set()
    shop.free_ticket(moment(6), transferred_from=ticket)
    yield {day(3), day(6)}


@proves("tickets.tickets", 3)
def a_refunded_ticket_handed_on(shop: Shop) -> History:
    order = shop.order()
    shop.refund(order, moment(3), ticket=order.tickets[0])
    yield set()
    shop.free_ticket(moment(6), transferred_from=order.tickets[0])
    yield {day(3), day(6)}


# ticket types: their currency, and what they offered on a day


@proves("tickets.ticket_types", 0)
def another_currency_of_free_tickets(shop: Shop) -> History:
    ticket = shop.free_ticket(moment(1))
    _cancel(shop, ticket, 3)
    scanned = shop.free_ticket(moment(2))
    shop.set("tickets.tickets", scanned, status="checked_in", checked_in_at=moment(9))
    yield set()
    shop.set("tickets.ticket_types", shop.ticket_type, currency="USD")
    yield {day(1), day(2), day(3), day(9)}


@proves("tickets.ticket_types", 1)
def another_currency_of_paid_tickets(shop: Shop) -> History:
    _order_of_an_earlier_ticket(shop)
    yield set()
    with shop.by_hand("tickets.ticket_types"):
        shop.set("tickets.ticket_types", shop.ticket_type, currency="USD")
    yield {day(-2), day(0)}


@proves("tickets.ticket_types", 2)
def another_currency_of_a_refunded_ticket(shop: Shop) -> History:
    ticket = shop.free_ticket()
    with shop.by_hand("payments.refunds"):
        shop.refund(shop.order(), moment(3), ticket=ticket)
    yield set()
    with shop.by_hand("tickets.ticket_types"):
        shop.set("tickets.ticket_types", shop.ticket_type, currency="USD")
    yield {day(0), day(3)}


@proves("tickets.ticket_type_capacity_log", 0)
def another_capacity_of_free_tickets(shop: Shop) -> History:
    ticket = shop.free_ticket(moment(1))
    _cancel(shop, ticket, 3)
    scanned = shop.free_ticket(moment(2))
    shop.set("tickets.tickets", scanned, status="checked_in", checked_in_at=moment(9))
    yield set()
    _offer(shop, 800, since=2)
    yield {day(2), day(3), day(9)}


@proves("tickets.ticket_type_capacity_log", 1)
def another_capacity_of_paid_tickets(shop: Shop) -> History:
    _order_of_an_earlier_ticket(shop)
    yield set()
    _offer(shop, 800, since=-1)
    yield {day(0)}


@proves("tickets.ticket_type_capacity_log", 2)
def another_capacity_of_a_refunded_ticket(shop: Shop) -> History:
    order = shop.order(tickets=2)
    for number, ticket in zip((2, 4), order.tickets, strict=True):
        shop.refund(order, moment(number), amount="2.00", ticket=ticket)
    yield set()
    _offer(shop, 800, since=3)
    yield {day(4)}


@proves("tickets.ticket_type_capacity_log", 0)
def a_capacity_corrected(shop: Shop) -> History:
    shop.free_ticket(moment(1))
    shop.free_ticket(moment(5))
    logged = _offer(shop, 800, since=3)
    yield set()
    shop.set("tickets.ticket_type_capacity_log", logged, quantity=900)
    yield {day(5)}


@proves("tickets.ticket_type_capacity_log", 0)
def a_capacity_of_another_hour(shop: Shop) -> History:
    """Of two on a day the later one is that of its end."""
    shop.free_ticket(moment(1))
    shop.free_ticket(moment(5))
    logged = _offer(shop, 800, since=3)
    yield set()
    shop.set("tickets.ticket_type_capacity_log", logged, valid_from=moment(3) + timedelta(hours=2))
    yield {day(5)}


# an event changes its owner


@proves("events.events", 0)
def an_event_with_payments_moves(shop: Shop) -> History:
    _order_of_an_earlier_ticket(shop)
    yield set()
    shop.set("events.events", shop.event, organizer_id=shop.buyer)
    yield {day(-2), day(0)}


@proves("events.events", 1)
def an_event_with_tickets_moves(shop: Shop) -> History:
    _cancel(shop, shop.free_ticket(moment(1)), 3)
    yield set()
    shop.set("events.events", shop.event, organizer_id=shop.buyer)
    yield {day(1), day(3)}


@proves("events.events", 2)
def an_event_with_refunds_moves(shop: Shop) -> History:
    refund = shop.refund(shop.order(), moment(5))
    shop.set("payments.refunds", refund, status="reversed", reversed_at=moment(8))
    yield set()
    shop.set("events.events", shop.event, organizer_id=shop.buyer)
    yield {day(0), day(5), day(8)}


@proves("events.events", 3)
def an_event_with_chargebacks_moves(shop: Shop) -> History:
    _charge_back(shop, shop.order(), 5, reversed_after=8)
    yield set()
    shop.set("events.events", shop.event, organizer_id=shop.buyer)
    yield {day(0), day(5), day(8)}


def _cancel(shop: Shop, ticket: UUID, after: int) -> None:
    shop.set("tickets.tickets", ticket, status="cancelled", cancelled_at=moment(after))


def _charge_back(shop: Shop, order: Order, after: int, *, reversed_after: int | None = None) -> UUID:
    chargeback = uuid4()
    shop.connection.execute(
        "insert into payments.chargebacks (id, payment_id, amount, dispute_fee, status, charged_back_at, "
        "reversed_at) values (%s, %s, 11, 15, %s, %s, %s)",
        (
            chargeback,
            order.payment,
            "open" if reversed_after is None else "won",
            moment(after),
            None if reversed_after is None else moment(reversed_after),
        ),
    )
    return chargeback


def _order_of_an_earlier_ticket(shop: Shop) -> Order:
    """Reserved two days before it was paid, as group orders are."""
    order = shop.order()
    shop.set("tickets.tickets", order.tickets[0], purchased_at=moment(-2))
    return order


def _another_type(shop: Shop) -> UUID:
    ticket_type = uuid4()
    shop.connection.execute(
        "insert into tickets.ticket_types (id, event_id, name, price, currency, quantity) "
        "values (%s, %s, 'VIP', 10, %s, 100)",
        (ticket_type, shop.event, shop.currency),
    )
    return ticket_type


def _offer(shop: Shop, seats: int, *, since: int) -> UUID:
    logged = uuid4()
    shop.connection.execute(
        "insert into tickets.ticket_type_capacity_log (id, ticket_type_id, quantity, valid_from) values "
        "(%s, %s, %s, %s)",
        (logged, shop.ticket_type, seats, moment(since)),
    )
    return logged
