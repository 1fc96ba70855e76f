"""Wrong data is impossible: a valid base, one change, one refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from bilten_orchestration.stores.postgres import Connection
from tests.integration.schema import rows

Make = Callable[..., UUID]

BASES: list[Make] = [
    rows.organization,
    rows.user,
    rows.venue,
    rows.event,
    rows.ticket_type,
    rows.ticket,
    rows.payment,
    rows.refund,
    rows.chargeback,
    rows.payout,
    rows.session,
    rows.login_attempt,
    rows.brand,
    rows.file,
]

# (what makes the base, the one change, the constraint that refuses it, or a part of the trigger's message)
REFUSED: list[tuple[Make, dict[str, Any], str]] = [
    (rows.organization, {"name": ""}, "organizations_name_check"),
    (rows.organization, {"timezone": "Mars/Olympus"}, "not an IANA time zone"),
    (rows.organization, {"timezone": "FOO+3"}, "not an IANA time zone"),
    (rows.organization, {"default_currency": "XXX"}, "organizations_default_currency_fkey"),
    (rows.user, {"email": "nobody"}, "users_email_check"),
    (rows.user, {"email": "a b@c.org"}, "users_email_check"),
    (rows.venue, {"latitude": "91", "longitude": "0"}, "venues_latitude_check"),
    (rows.venue, {"latitude": "0", "longitude": "181"}, "venues_longitude_check"),
    (rows.venue, {"latitude": "1"}, "venues_check"),
    (rows.venue, {"capacity": 0}, "venues_capacity_check"),
    (rows.event, {"title": ""}, "events_title_check"),
    (rows.event, {"end_date": "2026-05-01 18:00+00"}, "events_check"),
    (rows.event, {"end_date": "2026-05-01 17:00+00"}, "events_check"),
    (rows.event, {"capacity": -1}, "events_capacity_check"),
    (rows.event, {"timezone": "Nowhere"}, "not an IANA time zone"),
    (rows.event, {"status": "sold_out"}, "event_status"),
    (rows.ticket_type, {"price": "-0.01"}, "ticket_types_price_check"),
    (rows.ticket_type, {"quantity": -1}, "ticket_types_"),
    (rows.ticket_type, {"sold": -1}, "ticket_types_sold_check"),
    (rows.ticket_type, {"reserved": -1}, "ticket_types_reserved_check"),
    (rows.ticket_type, {"sold": 6, "reserved": 5}, "ticket_types_not_oversold"),
    (rows.ticket_type, {"sold": 11}, "ticket_types_not_oversold"),
    (
        rows.ticket_type,
        {"sales_start": "2026-02-01 00:00+00", "sales_end": "2026-01-01 00:00+00"},
        "ticket_types_sales_window",
    ),
    (rows.ticket_type, {"currency": "JPY", "price": "100.50"}, "ticket_types_price_scale"),
    (rows.ticket_type, {"currency": "EUR", "price": "1.005"}, "ticket_types_price_scale"),
    (rows.ticket_type, {"currency": "eur"}, "ticket_types_currency_fkey"),
    (rows.ticket, {"status": "checked_in"}, "tickets_checked_in"),
    (rows.ticket, {"status": "cancelled"}, "tickets_cancelled"),
    (rows.ticket, {"status": "transferred", "checked_in_at": "2026-05-01 18:00+00"}, "tickets_transferred"),
    (rows.payment, {"amount": "0"}, "payments_amount_check"),
    (rows.payment, {"amount": "-5"}, "payments_amount_check"),
    (rows.payment, {"fee_amount": "-1"}, "payments_fee_amount_check"),
    (rows.payment, {"tax_amount": "-1"}, "payments_tax_amount_check"),
    (rows.payment, {"fee_amount": "60", "tax_amount": "41"}, "payments_parts_within_amount"),
    (rows.payment, {"captured_at": None}, "payments_captured"),
    (rows.payment, {"status": "pending"}, "payments_captured"),
    (rows.payment, {"status": "failed"}, "payments_captured"),
    (rows.payment, {"currency": "JPY", "amount": "100.50"}, "payments_scale"),
    (rows.payment, {"currency": "EUR", "tax_amount": "1.001"}, "payments_scale"),
    (rows.payment, {"currency": "ZZZ"}, "payments_currency_fkey"),
    (rows.refund, {"amount": "0"}, "refunds_amount_check"),
    (rows.refund, {"fee_amount": "-1"}, "refunds_fee_amount_check"),
    (rows.refund, {"tax_amount": "-1"}, "refunds_tax_amount_check"),
    (rows.refund, {"fee_amount": "6", "tax_amount": "5"}, "refunds_parts_within_amount"),
    (rows.refund, {"refunded_at": None}, "refunds_refunded"),
    (rows.refund, {"status": "reversed"}, "refunds_reversed"),
    (rows.refund, {"reversed_at": "2026-04-03 10:00+00"}, "refunds_reversed"),
    (rows.refund, {"status": "reversed", "reversed_at": "2026-04-01 10:00+00"}, "refunds_reversed_after"),
    (rows.refund, {"amount": "100.01"}, "payments_refunds_within"),
    (rows.refund, {"refunded_at": "2026-04-01 09:59+00"}, "payments_captured_first"),
    (rows.refund, {"status": "pending"}, "refunds_refunded"),
    (rows.refund, {"status": "failed"}, "refunds_refunded"),
    (rows.refund, {"amount": "1.001"}, "more than 2 decimal places"),
    (rows.chargeback, {"amount": "0"}, "chargebacks_amount_check"),
    (rows.chargeback, {"amount": "100.01"}, "payments_chargebacks_within"),
    (rows.chargeback, {"charged_back_at": "2026-04-01 09:59+00"}, "payments_captured_first"),
    (rows.chargeback, {"dispute_fee": "-1"}, "chargebacks_dispute_fee_check"),
    (rows.chargeback, {"dispute_fee": "1.001"}, "more than 2 decimal places"),
    (rows.chargeback, {"charged_back_at": None}, "charged_back_at"),
    (rows.chargeback, {"status": "won"}, "chargebacks_reversed"),
    (rows.chargeback, {"status": "won", "reversed_at": "2026-04-19 10:00+00"}, "chargebacks_reversed_after"),
    (rows.payout, {"amount": "-1"}, "payouts_amount_check"),
    (rows.payout, {"currency": "JPY", "amount": "1.5"}, "payouts_scale"),
    (rows.payout, {"period_end": "2026-03-31"}, "payouts_period"),
    (rows.payout, {"status": "paid"}, "payouts_paid"),
    (rows.session, {"expires_at": "2026-01-01 00:00+00"}, "sessions_check"),
    (rows.login_attempt, {"succeeded": False}, "login_attempts_check"),
    (rows.login_attempt, {"failure_reason": "wrong password"}, "login_attempts_check"),
    (rows.brand, {"primary_color": "red"}, "brand_settings_primary_color_check"),
    (rows.brand, {"secondary_color": "#12345"}, "brand_settings_secondary_color_check"),
    (rows.brand, {"ssl_status": "maybe"}, "brand_settings_ssl_status_check"),
    (rows.brand, {"consistency_score": 101}, "brand_settings_consistency_score_check"),
    (rows.file, {"sha256": "A" * 64}, "files_sha256_check"),
    (rows.file, {"size": -1}, "files_size_check"),
]


def check_deferred(connection: Connection) -> None:
    connection.execute("set constraints all immediate")


@pytest.mark.parametrize("make", BASES, ids=lambda make: make.__name__)
def test_the_base_is_valid(owner: Connection, make: Make) -> None:
    make(owner)
    check_deferred(owner)


@pytest.mark.parametrize(
    ("make", "change", "refusal"), REFUSED, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_one_change_is_refused(owner: Connection, make: Make, change: dict[str, Any], refusal: str) -> None:
    def attempt() -> None:
        make(owner, **change)
        check_deferred(owner)

    with pytest.raises(psycopg.Error) as caught:
        attempt()
    assert refusal in (caught.value.diag.constraint_name or "") or refusal in str(caught.value)


def test_every_check_constraint_has_its_refusal(owner: Connection) -> None:
    """A constraint added later must come with its test."""
    proven = {refusal for _, _, refusal in REFUSED} | {
        "ticket_types_quantity_check",  # a negative quantity is oversold as well, and that is named first
        # by the tests below
        "payment_items_only_discounts_negative",
        "payment_items_ticket_has_ticket",
        "tickets_complimentary_unpaid",
        "tickets_not_from_itself",
        "tickets_handed_on_unpaid",
        "currencies_code_check",
        "currencies_check",
        "exchange_rates_rate_check",
        "exchange_rates_check",
        "ticket_type_capacity_log_quantity_check",
    }
    names = {
        name
        for (name,) in owner.execute(
            """
            select conname from pg_constraint
            where contype = 'c' and conislocal and connamespace::regnamespace::text in
                ('users', 'authentication', 'events', 'tickets', 'payments', 'financial', 'branding',
                 'assets')
            """
        ).fetchall()
    }
    assert names - proven == set()


# -- items add up ------------------------------------------------------------------------------------


def test_items_that_add_up_part_by_part(owner: Connection) -> None:
    made = rows.bare_payment(owner, fee_amount="5.00", tax_amount="10.00")
    sold = rows.ticket(
        owner, ticket_type_id=rows.ticket_type(owner, event_id=event_of(owner, made)), payment_id=made
    )
    rows.item(owner, made, item_type="ticket", ticket_id=sold, amount="90.00")
    rows.item(owner, made, item_type="fee", amount="5.00")
    rows.item(owner, made, item_type="tax", amount="10.00")
    rows.item(owner, made, item_type="discount", amount="-5.00")
    check_deferred(owner)


@pytest.mark.parametrize(
    ("payment", "items"),
    [
        ({}, []),
        ({}, [("addon", "99.99")]),
        ({}, [("addon", "100.00"), ("addon", "0.01")]),
        ({"fee_amount": "5.00"}, [("addon", "100.00")]),
        ({}, [("addon", "95.00"), ("fee", "5.00")]),
        ({"tax_amount": "5.00"}, [("addon", "95.00"), ("fee", "5.00")]),
    ],
)
def test_items_that_do_not_add_up(
    owner: Connection, payment: dict[str, Any], items: list[tuple[str, str]]
) -> None:
    made = rows.bare_payment(owner, **payment)
    for kind, amount in items:
        rows.item(owner, made, item_type=kind, amount=amount)
    with pytest.raises(psycopg.errors.CheckViolation, match="do not add up"):
        check_deferred(owner)


@pytest.mark.parametrize(
    "change",
    [
        "update payments.payments set amount = 101 where id = %(id)s",
        "update payments.payment_items set amount = 99 where payment_id = %(id)s",
        "update payments.payment_items set item_type = 'fee' where payment_id = %(id)s",
        "delete from payments.payment_items where payment_id = %(id)s",
    ],
)
def test_a_later_change_must_add_up_too(owner: Connection, change: str) -> None:
    made = rows.payment(owner)
    check_deferred(owner)
    owner.execute("set constraints all deferred")
    owner.execute(change, {"id": made})
    with pytest.raises(psycopg.errors.CheckViolation, match="do not add up"):
        check_deferred(owner)


def test_an_item_that_moves_is_missed_where_it_was(owner: Connection) -> None:
    origin = rows.payment(owner)
    target = rows.bare_payment(owner)
    owner.execute("update payments.payment_items set payment_id = %s where payment_id = %s", (target, origin))
    owner.execute("delete from payments.payment_items where payment_id = %s", (origin,))
    with pytest.raises(psycopg.errors.CheckViolation, match=f"payment {origin}: its items do not add up"):
        check_deferred(owner)


def test_a_payment_may_go_with_its_items(owner: Connection) -> None:
    made = rows.payment(owner)
    owner.execute("delete from payments.payments where id = %s", (made,))
    check_deferred(owner)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"item_type": "discount", "amount": "5.00"}, "payment_items_only_discounts_negative"),
        ({"item_type": "discount", "amount": "0"}, "payment_items_only_discounts_negative"),
        ({"item_type": "addon", "amount": "-5.00"}, "payment_items_only_discounts_negative"),
        ({"item_type": "fee", "amount": "-5.00"}, "payment_items_only_discounts_negative"),
        ({"item_type": "ticket"}, "payment_items_ticket_has_ticket"),
    ],
)
def test_wrong_items(owner: Connection, change: dict[str, Any], constraint: str) -> None:
    made = rows.payment(owner)
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        rows.item(owner, made, **change)
    assert caught.value.diag.constraint_name == constraint


@pytest.mark.parametrize(
    ("currency", "amount", "good"),
    [("JPY", "100.5", "100"), ("EUR", "1.001", "1.01"), ("KWD", None, "1.001")],
)
def test_items_refunds_and_chargebacks_have_the_scale_of_their_payment(
    owner: Connection, currency: str, amount: str | None, good: str
) -> None:
    made = rows.payment(owner, currency=currency, amount="1000")
    for make in (rows.refund, rows.chargeback):
        make(owner, payment_id=made, amount=good, **({"dispute_fee": "0"} if make is rows.chargeback else {}))
    if amount is None:
        return
    for make in (rows.refund, rows.chargeback):
        with pytest.raises(psycopg.errors.CheckViolation, match="decimal places"), owner.transaction():
            make(owner, payment_id=made, amount=amount)
    with pytest.raises(psycopg.errors.CheckViolation, match="decimal places"), owner.transaction():
        rows.item(owner, made, amount=amount)


# -- money that comes back ---------------------------------------------------------------------------


def sold(owner: Connection, **changes: Any) -> UUID:
    """A payment of 100 EUR, of which 5 are fee and 10 are tax."""
    made = rows.bare_payment(owner, **{"fee_amount": "5.00", "tax_amount": "10.00"} | changes)
    for kind, amount in (("addon", "85.00"), ("fee", "5.00"), ("tax", "10.00")):
        rows.item(owner, made, item_type=kind, amount=amount)
    check_deferred(owner)
    return made


def refused_at_commit(owner: Connection, name: str, *told: str) -> None:
    """The rule by its name, and in the message what was expected and what was found."""
    with pytest.raises(psycopg.errors.CheckViolation) as caught, owner.transaction():
        check_deferred(owner)
    owner.execute("set constraints all deferred")
    assert caught.value.diag.constraint_name == name
    assert caught.value.diag.schema_name == "payments"
    detail = caught.value.diag.message_detail or ""
    assert [part for part in told if part not in detail] == [], detail


@pytest.fixture
def deferred(owner: Connection) -> Connection:
    owner.execute("set constraints all deferred")
    return owner


def test_refunds_together_stay_within_the_payment(deferred: Connection) -> None:
    made = rows.payment(deferred)
    rows.refund(deferred, payment_id=made, amount="60.00")
    over = rows.refund(deferred, payment_id=made, amount="40.01")
    refused_at_commit(deferred, "payments_refunds_within", "expected at most 100.000 EUR", "found 100.010")
    deferred.execute("update payments.refunds set amount = 40 where id = %s", (over,))
    rows.refund(deferred, payment_id=made, amount="40.01", status="failed", refunded_at=None)
    check_deferred(deferred)


def test_a_pending_refund_takes_its_room_and_a_reversed_one_gives_it_back(deferred: Connection) -> None:
    made = rows.payment(deferred)
    first = rows.refund(deferred, payment_id=made, amount="60.00", status="pending", refunded_at=None)
    rows.refund(deferred, payment_id=made, amount="60.00")
    refused_at_commit(deferred, "payments_refunds_within", "found 120.000")
    deferred.execute(
        "update payments.refunds set status = 'succeeded', refunded_at = '2026-04-03' where id = %s", (first,)
    )
    refused_at_commit(deferred, "payments_refunds_within", "found 120.000")
    deferred.execute(
        "update payments.refunds set status = 'reversed', reversed_at = '2026-04-05' where id = %s", (first,)
    )
    check_deferred(deferred)


@pytest.mark.parametrize(
    ("part", "most", "more"), [("fee_amount", "5.00", "5.01"), ("tax_amount", "10.00", "10.01")]
)
def test_a_refund_gives_back_no_more_fee_and_tax_than_was_paid(
    deferred: Connection, part: str, most: str, more: str
) -> None:
    made = sold(deferred)
    deferred.execute("set constraints all deferred")
    refund = rows.refund(deferred, payment_id=made, amount="20.00", **{part: more})
    name = part.removesuffix("_amount")
    refused_at_commit(deferred, "payments_refunds_within", f"{name} {most}0", f"{name} {more}0")
    deferred.execute(f"update payments.refunds set {part} = %s where id = %s", (most, refund))
    check_deferred(deferred)


def test_chargebacks_that_were_not_won_stay_within_the_payment(deferred: Connection) -> None:
    made = rows.payment(deferred)
    lost = rows.chargeback(deferred, payment_id=made, amount="60.00", status="lost")
    over = rows.chargeback(deferred, payment_id=made, amount="40.01")
    refused_at_commit(
        deferred, "payments_chargebacks_within", "expected at most 100.000 EUR", "found 100.010"
    )
    deferred.execute(
        "update payments.chargebacks set status = 'won', reversed_at = '2026-05-01' where id = %s", (lost,)
    )
    check_deferred(deferred)
    deferred.execute("set constraints all deferred")
    deferred.execute("update payments.chargebacks set amount = 100.01 where id = %s", (over,))
    refused_at_commit(deferred, "payments_chargebacks_within", "found 100.010")


def test_a_buyer_may_take_back_what_was_refunded_already(deferred: Connection) -> None:
    """It happens, and the refund then is the evidence in the dispute: each stays within the payment alone."""
    made = rows.payment(deferred)
    rows.refund(deferred, payment_id=made, amount="100.00")
    rows.chargeback(deferred, payment_id=made, amount="100.00")
    check_deferred(deferred)


@pytest.mark.parametrize("make", [rows.refund, rows.chargeback])
def test_nothing_comes_back_of_a_payment_that_was_not_captured(deferred: Connection, make: Make) -> None:
    made = rows.payment(deferred, status="pending", captured_at=None)
    make(deferred, payment_id=made)
    refused_at_commit(
        deferred, "payments_captured_first", "expected none, it was not captured", "found 1 of them"
    )
    deferred.execute(
        "update payments.payments set status = 'captured', captured_at = '2026-04-01' where id = %s", (made,)
    )
    check_deferred(deferred)


def test_a_refund_waits_or_fails_only_of_what_was_captured(deferred: Connection) -> None:
    made = rows.payment(deferred, status="failed", captured_at=None)
    tried = rows.refund(deferred, payment_id=made, status="failed", refunded_at=None)
    check_deferred(deferred)
    deferred.execute("set constraints all deferred")
    deferred.execute("update payments.refunds set status = 'pending' where id = %s", (tried,))
    refused_at_commit(deferred, "payments_captured_first", "the first pending")


@pytest.mark.parametrize(
    ("make", "moment"), [(rows.refund, "refunded_at"), (rows.chargeback, "charged_back_at")]
)
def test_money_may_come_back_at_the_moment_it_was_taken_and_not_before(
    deferred: Connection, make: Make, moment: str
) -> None:
    made = rows.payment(deferred)
    make(deferred, payment_id=made, amount="10.00", **{moment: "2026-04-01 10:00+00"})
    check_deferred(deferred)
    deferred.execute("set constraints all deferred")
    make(deferred, payment_id=made, amount="10.00", **{moment: "2026-04-01 09:59:59+00"})
    refused_at_commit(
        deferred,
        "payments_captured_first",
        "2026-04-01 10:00:00+00 on",
        "2 of them, the first at 2026-04-01 09:59:59",
    )


@pytest.mark.parametrize(
    ("make", "rule"),
    [(rows.refund, "payments_refunds_within"), (rows.chargeback, "payments_chargebacks_within")],
)
def test_a_payment_is_not_lowered_below_what_came_back(deferred: Connection, make: Make, rule: str) -> None:
    made = rows.payment(deferred)
    make(deferred, payment_id=made, amount="60.00")
    for amount in ("59.99", "60.00"):
        for statement in (
            "update payments.payments set amount = %s where id = %s",
            "update payments.payment_items set amount = %s where payment_id = %s",
        ):
            deferred.execute(statement, (amount, made))
        if amount == "59.99":
            refused_at_commit(deferred, rule, "expected at most 59.990 EUR", "found 60.000")
    check_deferred(deferred)


def test_everything_that_is_wrong_with_a_payment_is_told_at_once(deferred: Connection) -> None:
    made = rows.bare_payment(deferred)
    rows.refund(deferred, payment_id=made, amount="100.01", refunded_at="2026-03-31 10:00+00")
    rows.chargeback(deferred, payment_id=made, amount="100.01")
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        check_deferred(deferred)
    assert caught.value.diag.message_primary == (
        f"payment {made}: its items do not add up to it; its refunds exceed it; its chargebacks exceed it;"
        " money comes back that was not taken by then"
    )
    assert len((caught.value.diag.message_detail or "").splitlines()) == 4


def test_a_refund_that_moves_is_judged_with_the_payment_it_comes_to(deferred: Connection) -> None:
    origin, target = rows.payment(deferred), rows.payment(deferred)
    moving = rows.refund(deferred, payment_id=origin, amount="60.00")
    rows.refund(deferred, payment_id=target, amount="60.00")
    check_deferred(deferred)
    deferred.execute("set constraints all deferred")
    deferred.execute("update payments.refunds set payment_id = %s where id = %s", (target, moving))
    refused_at_commit(deferred, "payments_refunds_within", "found 120.000")


# -- tickets, reference data -------------------------------------------------------------------------


def test_a_ticket_its_type_and_its_payment_are_for_one_event(owner: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="its type for event"), owner.transaction():
        rows.ticket(owner, event_id=rows.event(owner))
    with pytest.raises(psycopg.errors.CheckViolation, match="its payment for event"), owner.transaction():
        rows.ticket(owner, payment_id=rows.payment(owner))


def test_items_and_refunds_name_a_ticket_of_their_payments_event(owner: Connection) -> None:
    """Else a cancellation would lie on the day of one event for PostgreSQL, and of another for the marts."""
    made, stranger = rows.payment(owner), rows.ticket(owner)
    with (
        pytest.raises(psycopg.errors.CheckViolation, match=r"refunds .* its ticket is for"),
        owner.transaction(),
    ):
        rows.refund(owner, payment_id=made, ticket_id=stranger)
    with pytest.raises(psycopg.errors.CheckViolation, match=r"payment_items .* its ticket is for"):
        rows.item(owner, made, item_type="ticket", ticket_id=stranger)


def test_a_ticket_and_its_payment_are_in_one_currency(owner: Connection) -> None:
    """Else its sale would count in one currency and its check-in in another."""
    paid = rows.payment(owner)
    event = event_of(owner, paid)
    dollars = rows.ticket_type(owner, event_id=event, currency="USD")
    with (
        pytest.raises(psycopg.errors.CheckViolation, match="in USD, its payment is in EUR") as caught,
        owner.transaction(),
    ):
        rows.ticket(owner, ticket_type_id=dollars, payment_id=paid)
    assert caught.value.diag.constraint_name == "tickets_payment_in_currency"
    free = rows.ticket(owner, ticket_type_id=dollars)
    with pytest.raises(psycopg.errors.CheckViolation, match="in USD, its payment"), owner.transaction():
        owner.execute("update tickets.tickets set payment_id = %s where id = %s", (paid, free))
    euros = rows.ticket_type(owner, event_id=event)
    bought = rows.ticket(owner, ticket_type_id=euros, payment_id=paid)
    with pytest.raises(psycopg.errors.CheckViolation, match="in USD, its payment"), owner.transaction():
        owner.execute("update tickets.tickets set ticket_type_id = %s where id = %s", (dollars, bought))
    with pytest.raises(psycopg.errors.RestrictViolation, match=r"stays EUR: expected no .* found 1") as stays:
        owner.execute("update tickets.ticket_types set currency = 'USD' where id = %s", (euros,))
    assert stays.value.diag.constraint_name == "ticket_types_currency_of_payments"


def test_the_currency_is_corrected_before_the_first_sale(owner: Connection) -> None:
    kind = rows.ticket_type(owner, currency="USD")
    rows.ticket(owner, ticket_type_id=kind, is_complimentary=True)
    owner.execute("update tickets.ticket_types set currency = 'EUR' where id = %s", (kind,))
    paid = rows.payment(
        owner, event_id=one(owner, "select event_id from tickets.ticket_types where id = %s", kind)
    )
    rows.ticket(owner, ticket_type_id=kind, payment_id=paid)
    owner.execute("update tickets.ticket_types set currency = 'EUR', quantity = 20 where id = %s", (kind,))


def test_items_and_refunds_name_a_ticket_of_their_payment(owner: Connection) -> None:
    """A refund ends the ticket that it names; another buyer's would be counted as cancelled."""
    event = rows.event(owner)
    kind = rows.ticket_type(owner, event_id=event)
    mine, other = rows.payment(owner, event_id=event), rows.payment(owner, event_id=event)
    bought = rows.ticket(owner, ticket_type_id=kind, payment_id=mine)
    stranger = rows.ticket(owner, ticket_type_id=kind, payment_id=other)
    free = rows.ticket(owner, ticket_type_id=kind)
    for named, found in ((stranger, f"payment {other}"), (free, "none")):
        told = f"is of payment {mine}, its ticket {named} was paid for with {found}"
        with pytest.raises(psycopg.errors.CheckViolation, match=told) as caught, owner.transaction():
            rows.refund(owner, payment_id=mine, ticket_id=named)
        assert caught.value.diag.constraint_name == "refunds_ticket_of_payment"
        with pytest.raises(psycopg.errors.CheckViolation, match=told) as caught, owner.transaction():
            rows.item(owner, mine, item_type="ticket", ticket_id=named)
        assert caught.value.diag.constraint_name == "payment_items_ticket_of_payment"
    refund = rows.refund(owner, payment_id=mine, ticket_id=bought)
    item = rows.item(owner, mine, item_type="ticket", ticket_id=bought, amount="0")
    for table, row in (("refunds", refund), ("payment_items", item)):
        for change, value in (("payment_id", other), ("ticket_id", stranger)):
            with pytest.raises(psycopg.errors.CheckViolation, match="was paid for with"), owner.transaction():
                owner.execute(f"update payments.{table} set {change} = %s where id = %s", (value, row))
    with pytest.raises(psycopg.errors.RestrictViolation, match=r"tickets.tickets.payment_id is set once"):
        owner.execute("update tickets.tickets set payment_id = %s where id = %s", (other, bought))


def test_parking_is_paid_for_later_and_names_the_ticket(owner: Connection) -> None:
    event = rows.event(owner)
    mine, later = rows.payment(owner, event_id=event), rows.payment(owner, event_id=event)
    kind = rows.ticket_type(owner, event_id=event)
    bought = rows.ticket(owner, ticket_type_id=kind, payment_id=mine)
    parking = rows.item(owner, later, item_type="addon", ticket_id=bought, amount="0")
    with pytest.raises(psycopg.errors.CheckViolation, match="was paid for with"):
        owner.execute("update payments.payment_items set item_type = 'ticket' where id = %s", (parking,))


def test_a_refund_names_the_ticket_that_its_own_was_handed_on_to(owner: Connection) -> None:
    event = rows.event(owner)
    kind = rows.ticket_type(owner, event_id=event)
    mine, other = rows.payment(owner, event_id=event), rows.payment(owner, event_id=event)
    bought = rows.ticket(owner, ticket_type_id=kind, payment_id=mine)
    second = rows.ticket(owner, ticket_type_id=kind, transferred_from=bought)
    third = rows.ticket(owner, ticket_type_id=kind, transferred_from=second)
    rows.refund(owner, payment_id=mine, ticket_id=third)
    with pytest.raises(psycopg.errors.CheckViolation, match=f"with payment {mine}"), owner.transaction():
        rows.refund(owner, payment_id=other, ticket_id=third)
    with pytest.raises(psycopg.errors.CheckViolation, match="tickets_handed_on_unpaid"), owner.transaction():
        owner.execute("update tickets.tickets set payment_id = %s where id = %s", (other, third))
    with pytest.raises(psycopg.errors.RestrictViolation, match="transferred_from is set once"):
        owner.execute("update tickets.tickets set transferred_from = null where id = %s", (third,))


def test_a_chain_of_transfers_that_bites_its_tail_ends(owner: Connection) -> None:
    first = rows.ticket(owner)
    kind = one(owner, "select ticket_type_id from tickets.tickets where id = %s", first)
    last = rows.ticket(owner, ticket_type_id=kind, transferred_from=first)
    owner.execute("update tickets.tickets set transferred_from = %s where id = %s", (last, first))
    event = one(owner, "select event_id from tickets.tickets where id = %s", first)
    with pytest.raises(psycopg.errors.CheckViolation, match="was paid for with none"):
        rows.refund(owner, payment_id=rows.payment(owner, event_id=event), ticket_id=last)


@pytest.mark.parametrize(
    ("table", "make", "column"),
    [
        ("tickets.ticket_types", rows.ticket_type, "event_id"),
        ("payments.payments", rows.payment, "event_id"),
        ("payments.payments", rows.payment, "currency"),
    ],
)
def test_what_others_were_checked_against_stays(
    owner: Connection, table: str, make: Make, column: str
) -> None:
    made = make(owner)
    other: Any = "USD" if column == "currency" else rows.event(owner)
    with pytest.raises(psycopg.errors.RestrictViolation, match="set once"):
        owner.execute(f"update {table} set {column} = %s where id = %s", (other, made))


def test_a_ticket_stays_with_its_event_even_with_a_type_of_the_other(owner: Connection) -> None:
    made, kind = rows.ticket(owner), rows.ticket_type(owner)
    with pytest.raises(psycopg.errors.RestrictViolation, match="event_id is set once"):
        owner.execute(
            "update tickets.tickets t set ticket_type_id = y.id, event_id = y.event_id"
            " from tickets.ticket_types y where y.id = %s and t.id = %s",
            (kind, made),
        )


def test_a_complimentary_ticket_is_not_paid(owner: Connection) -> None:
    paid = rows.payment(owner)
    kind = rows.ticket_type(owner, event_id=event_of(owner, paid))
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        rows.ticket(owner, ticket_type_id=kind, payment_id=paid, is_complimentary=True)
    assert caught.value.diag.constraint_name == "tickets_complimentary_unpaid"


def test_a_ticket_replaces_another_one_and_that_once(owner: Connection) -> None:
    first = rows.ticket(owner)
    kind = owner.execute("select ticket_type_id from tickets.tickets where id = %s", (first,)).fetchone()
    assert kind is not None
    rows.ticket(owner, ticket_type_id=kind[0], transferred_from=first)
    with pytest.raises(psycopg.errors.UniqueViolation), owner.transaction():
        rows.ticket(owner, ticket_type_id=kind[0], transferred_from=first)
    with pytest.raises(psycopg.errors.CheckViolation, match="tickets_not_from_itself"):
        owner.execute("update tickets.tickets set transferred_from = id where id = %s", (first,))


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            "insert into financial.currencies (code, name, minor_unit) values ('krw', 'Won', 2)",
            "currencies_code_check",
        ),
        (
            "insert into financial.currencies (code, name, minor_unit) values ('KRW', 'Won', 2)",
            "currencies_check",
        ),
        (
            "insert into financial.exchange_rates values ('2026-01-01', 'EUR', 'USD', 0)",
            "exchange_rates_rate_check",
        ),
        (
            "insert into financial.exchange_rates values ('2026-01-01', 'EUR', 'EUR', 1)",
            "exchange_rates_check",
        ),
    ],
)
def test_wrong_reference_data(owner: Connection, statement: str, constraint: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        owner.execute(statement)
    assert caught.value.diag.constraint_name == constraint


def test_wrong_capacity(owner: Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="ticket_type_capacity_log_quantity_check"):
        owner.execute(
            "insert into tickets.ticket_type_capacity_log (ticket_type_id, quantity) values (%s, -1)",
            (rows.ticket_type(owner),),
        )


def test_an_address_is_taken_whatever_its_case(owner: Connection) -> None:
    rows.user(owner, email="Someone@Example.org")
    with pytest.raises(psycopg.errors.UniqueViolation):
        rows.user(owner, email="someone@example.ORG")


def one(connection: Connection, query: str, row_id: UUID) -> UUID:
    row = connection.execute(query, (row_id,)).fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


def event_of(connection: Connection, payment_id: UUID) -> UUID:
    return one(connection, "select event_id from payments.payments where id = %s", payment_id)
