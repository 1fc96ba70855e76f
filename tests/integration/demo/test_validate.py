"""Each rule finds the violation planted for it, and only then."""

# ruff: noqa: E501 (statements and their bounds side by side)

from __future__ import annotations

import pytest

from bilten_orchestration.demo.validate import RULES, examine, require
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.stores.postgres import Connection

ANY_PAYMENT = (
    "(select id from payments.payments where status = 'captured' and tax_amount > 0 order by id limit 1)"
)
ANY_TYPE = "(select id from tickets.ticket_types where sold > 0 order by id limit 1)"
ANY_TICKET = (
    "(select id from tickets.tickets where status = 'active' and payment_id is not null order by id limit 1)"
)

ANY_REFUND = "(select id from payments.refunds where status = 'succeeded' order by id limit 1)"

PLANTED = {
    "items add up": f"update payments.payments set amount = amount + 1 where id = {ANY_PAYMENT}",
    "items have no more": "update payments.payment_items set amount = amount + 0.5 where id = (select i.id from"
    " payments.payment_items i join payments.payments p on p.id = i.payment_id where p.currency = 'JPY' limit 1)",
    "refunds have no more": "update payments.refunds set amount = amount - 0.001 where id = (select r.id from"
    " payments.refunds r join payments.payments p on p.id = r.payment_id where p.currency = 'JPY' limit 1)",
    "chargebacks have no more": "update payments.chargebacks set dispute_fee = 0.5 where id = (select b.id from"
    " payments.chargebacks b join payments.payments p on p.id = b.payment_id where p.currency = 'JPY' limit 1)",
    "refunds that stand": "insert into payments.refunds (payment_id, amount, fee_amount, status, refunded_at)"
    f" select id, amount, 0, 'succeeded'::payments.refund_status, captured_at + interval '1 day' from payments.payments where id = {ANY_PAYMENT}"
    " union all select id, 1, 0, 'succeeded', captured_at + interval '1 day' from payments.payments"
    f" where id = {ANY_PAYMENT}",
    "money comes back": "update payments.refunds r set refunded_at = p.captured_at - interval '1 second'"
    " from payments.payments p where p.id = r.payment_id and r.id = (select id from payments.refunds"
    " where status = 'succeeded' order by id limit 1)",
    "a payment's status": "update payments.payments set status = 'captured' where id ="
    " (select id from payments.payments where status = 'refunded' order by id limit 1)",
    "captured_at stands": f"update payments.payments set captured_at = created_at - interval '1 second' where id = {ANY_PAYMENT}",
    "a ticket, its type": "update tickets.tickets t set event_id = (select id from events.events e"
    f" where e.id <> t.event_id limit 1) where id = {ANY_TICKET}",
    "a ticket that was paid": f"delete from payments.payment_items where item_type = 'ticket' and ticket_id = {ANY_TICKET}",
    "sold counts": f"update tickets.ticket_types set sold = sold - 1 where id = {ANY_TYPE}",
    "tickets of payments": "update tickets.tickets set status = 'active' where id = (select t.id from tickets.tickets t"
    " join payments.payments p on p.id = t.payment_id where p.status = 'failed' order by t.id limit 1)",
    "a transferred ticket": f"update tickets.tickets set status = 'transferred' where id = {ANY_TICKET}",
    "tickets are checked in": "update tickets.tickets set checked_in_at = purchased_at - interval '1 minute' where id ="
    " (select id from tickets.tickets where status = 'checked_in' order by id limit 1)",
    "tickets cancelled or refunded": "update tickets.tickets set cancelled_at = null where id = (select t.id"
    " from tickets.tickets t join payments.refunds r on r.payment_id = t.payment_id and r.ticket_id is null"
    " where t.status = 'refunded' and r.refunded_at is not null order by t.id limit 1)",
    "the newest quantity": f"update tickets.ticket_types set quantity = quantity + 1 where id = {ANY_TYPE}",
    "time zones": "update users.organizations set timezone = 'FOO+3' where id = (select id from users.organizations limit 1)",
    "nothing lies": "update payments.chargebacks set charged_back_at = now() + interval '1 day', reversed_at = null,"
    " status = 'open' where id = (select id from payments.chargebacks where status <> 'won' order by id limit 1)",
    "items and refunds": "update payments.refunds r set ticket_id = (select t.id from tickets.tickets t where"
    " t.event_id = p.event_id and t.payment_id <> p.id limit 1) from payments.payments p"
    f" where p.id = r.payment_id and r.id = {ANY_REFUND}",
    "e-mail addresses": "update users.users set email = 'somebody@elsewhere.net' where id = (select id from users.users limit 1)",
}  # fmt: skip
# the other parts of a rule, each alone
PARTS = (
    ("refunds that stand", "insert into payments.refunds (payment_id, amount, fee_amount, status, refunded_at)"
     " select id, fee_amount + 1, fee_amount + 1, 'succeeded'::payments.refund_status, captured_at + interval '1 day'"
     f" from payments.payments where id = {ANY_PAYMENT}"),
    ("refunds that stand", "insert into payments.refunds (payment_id, amount, tax_amount, status, refunded_at)"
     " select id, tax_amount + 1, tax_amount + 1, 'succeeded'::payments.refund_status, captured_at + interval '1 day'"
     f" from payments.payments where id = {ANY_PAYMENT}"),
    ("refunds that stand", "update payments.payments p set amount = r.amount - 1 from payments.refunds r"
     f" where r.payment_id = p.id and r.id = {ANY_REFUND}"),
    ("money comes back", "insert into payments.refunds (payment_id, amount) select id, 1 from payments.payments"
     " where status = 'failed' order by id limit 1"),
    ("money comes back", "update payments.chargebacks b set charged_back_at = p.captured_at - interval '1 second'"
     " from payments.payments p where p.id = b.payment_id and b.id = (select id from payments.chargebacks limit 1)"),
    ("money comes back", "update payments.chargebacks b set amount = p.amount + 1 from payments.payments p"
     " where p.id = b.payment_id and b.id = (select id from payments.chargebacks where status = 'lost' limit 1)"),
    ("a ticket, its type", "update tickets.ticket_types set currency = 'USD' where id = (select y.id from tickets.ticket_types y"
     " join tickets.tickets t on t.ticket_type_id = y.id and t.payment_id is not null where y.currency = 'EUR' limit 1)"),
    ("items and refunds", "update payments.refunds r set ticket_id = (select t.id from tickets.tickets t where"
     " t.event_id = p.event_id and t.is_complimentary and t.transferred_from is null limit 1)"
     " from payments.payments p where p.id = r.payment_id and r.id = (select r.id from payments.refunds r"
     " join payments.payments p on p.id = r.payment_id join tickets.tickets t on t.event_id = p.event_id"
     " where t.is_complimentary and t.transferred_from is null limit 1)"),
    ("items and refunds", "update payments.payment_items set payment_id = (select p.id from payments.payments p,"
     f" tickets.tickets t where p.event_id = t.event_id and t.id = {ANY_TICKET} and p.id <> t.payment_id limit 1)"
     f" where item_type = 'ticket' and ticket_id = {ANY_TICKET}"),
    ("items and refunds", "update payments.payment_items i set ticket_id = (select t.id from tickets.tickets t"
     " where t.event_id <> p.event_id limit 1) from payments.payments p where p.id = i.payment_id and i.id ="
     " (select id from payments.payment_items where ticket_id is null order by id limit 1)"),
)  # fmt: skip


def test_every_rule_has_its_violation_here() -> None:
    for rule in RULES:
        assert [start for start in PLANTED if rule.name.startswith(start)], rule.name
    assert len(PLANTED) == len(RULES)


def test_a_load_breaks_no_rule(owner: Connection) -> None:
    require(examine(owner))


@pytest.mark.parametrize(("start", "violation"), [*PLANTED.items(), *PARTS])
def test_a_planted_violation_is_found(owner: Connection, start: str, violation: str) -> None:
    for table in ("users.organizations", "users.users", "payments.payments", "payments.payment_items",
                  "payments.refunds", "payments.chargebacks", "tickets.tickets", "tickets.ticket_types"):  # fmt: skip
        owner.execute(f"alter table {table} disable trigger user".encode())
    assert owner.execute(violation.encode()).rowcount > 0
    verdicts = {verdict.rule: verdict for verdict in examine(owner)}
    found = [rule for rule in verdicts if rule.startswith(start)]
    assert len(found) == 1
    assert verdicts[found[0]].offenders >= 1
    assert verdicts[found[0]].sample
    with pytest.raises(Mismatch, match="broken"):
        require(tuple(verdicts.values()))


# one more for each other way in which a rule can be broken: (rule, way) -> statement
ANY_FAILED = "(select id from payments.payments where status = 'failed' order by id limit 1)"
ANY_JPY_REFUND = ("(select r.id from payments.refunds r join payments.payments p on p.id = r.payment_id"
    " where p.currency = 'JPY' order by r.id limit 1)")  # fmt: skip
ANY_SUCCESSOR = "(select id from tickets.tickets where transferred_from is not null order by id limit 1)"
ANY_DISPUTE = "(select id from payments.chargebacks where status <> 'won' order by id limit 1)"
FOREIGN_EVENT = "(select id from events.events e where e.id <> event_id order by id limit 1)"
LATER = "clock_timestamp() + interval '1 day'"

FURTHER = {
    ("items add up", "to the fee"): f"update payments.payments set fee_amount = fee_amount + 1 where id = {ANY_PAYMENT}",
    ("items add up", "to the tax"): f"update payments.payments set tax_amount = tax_amount - 1 where id = {ANY_PAYMENT}",
    ("items add up", "there are none"): f"delete from payments.payment_items where payment_id = {ANY_PAYMENT}",
    ("refunds have no more", "in the fee"): f"update payments.refunds set amount = 10, fee_amount = 0.5, tax_amount = 0 where id = {ANY_JPY_REFUND}",
    ("refunds have no more", "in the tax"): f"update payments.refunds set amount = 10, fee_amount = 0, tax_amount = 0.5 where id = {ANY_JPY_REFUND}",
    ("chargebacks have no more", "in the amount"): "update payments.chargebacks set amount = amount - 0.5 where id = (select b.id from"
    " payments.chargebacks b join payments.payments p on p.id = b.payment_id where p.currency = 'JPY' limit 1)",
    ("refunds that stand", "within the fee"): "insert into payments.refunds (payment_id, amount, fee_amount, status)"
    f" select id, fee_amount + 1, fee_amount + 1, 'pending' from payments.payments where id = {ANY_PAYMENT}",
    ("refunds that stand", "within the tax"): "insert into payments.refunds (payment_id, amount, tax_amount, status)"
    f" select id, tax_amount + 1, tax_amount + 1, 'pending' from payments.payments where id = {ANY_PAYMENT}",
    ("money comes back", "by the bank, before it was taken"): "update payments.chargebacks b set charged_back_at ="
    f" p.captured_at - interval '1 second' from payments.payments p where p.id = b.payment_id and b.id = {ANY_DISPUTE}",
    ("money comes back", "of what was never taken"): "insert into payments.refunds (payment_id, amount, status, refunded_at)"
    f" select id, amount, 'succeeded', clock_timestamp() from payments.payments where id = {ANY_FAILED}",
    ("money comes back", "by the bank, more than was taken"): "update payments.chargebacks b set amount = p.amount + 1"
    f" from payments.payments p where p.id = b.payment_id and b.id = {ANY_DISPUTE}",
    ("a payment's status", "disputed"): "update payments.payments set status = 'captured' where id ="
    f" (select payment_id from payments.chargebacks where id = {ANY_DISPUTE})",
    ("a payment's status", "refunded in part"): "update payments.payments set status = 'captured' where id ="
    " (select id from payments.payments where status = 'partially_refunded' order by id limit 1)",
    ("a payment's status", "neither"): f"update payments.payments set status = 'refunded' where id = {ANY_PAYMENT}",
    ("captured_at stands", "where none was taken"): "alter table payments.payments drop constraint payments_captured;"
    f" update payments.payments set captured_at = created_at where id = {ANY_FAILED}",
    ("captured_at stands", "not where some was"): "alter table payments.payments drop constraint payments_captured;"
    f" update payments.payments set captured_at = null where id = {ANY_PAYMENT}",
    ("a ticket, its type", "its type of another event"): f"update tickets.tickets set event_id = {FOREIGN_EVENT}"
    " where id = (select id from tickets.tickets where is_complimentary order by id limit 1)",
    ("a ticket, its type", "its payment of another event"): f"update payments.payments set event_id = {FOREIGN_EVENT}"
    f" where id = (select payment_id from tickets.tickets where id = {ANY_TICKET})",
    ("a ticket, its type", "its payment of another currency"): "update payments.payments set currency ="
    " case currency when 'EUR' then 'USD' else 'EUR' end where id = (select p.id from payments.payments p join"
    " tickets.tickets t on t.payment_id = p.id where p.currency not in ('JPY', 'KWD', 'TND') order by p.id limit 1)",
    ("a ticket that was paid", "has two items"): "insert into payments.payment_items (payment_id, ticket_id, item_type, amount)"
    f" select payment_id, id, 'ticket', 0 from tickets.tickets where id = {ANY_TICKET}",
    ("a ticket that was paid", "of another payment"): f"update payments.payment_items set payment_id = {ANY_FAILED}"
    f" where item_type = 'ticket' and ticket_id = {ANY_TICKET}",
    ("a ticket that was paid", "any other none"): "insert into payments.payment_items (payment_id, ticket_id, item_type, amount)"
    f" select {ANY_PAYMENT}, id, 'ticket', 0 from (select id from tickets.tickets where is_complimentary order by id limit 1) t",
    ("sold counts", "of a type without tickets"): "update tickets.ticket_types set sold = 1, quantity = quantity + 1"
    " where id = (select id from tickets.ticket_types y where not exists"
    " (select from tickets.tickets t where t.ticket_type_id = y.id) order by id limit 1)",
    ("tickets of payments", "that are deleted"): "update payments.payments set deleted_at = clock_timestamp()"
    f" where id = (select payment_id from tickets.tickets where id = {ANY_TICKET})",
    ("tickets of payments", "and were let in"): "update tickets.tickets set status = 'checked_in', checked_in_at = clock_timestamp()"
    f" where payment_id = {ANY_FAILED}",
    ("a transferred ticket", "was none"): "update tickets.tickets set status = 'cancelled', cancelled_at = clock_timestamp()"
    f" where id = (select transferred_from from tickets.tickets where id = {ANY_SUCCESSOR})",
    ("a transferred ticket", "of the same type"): "update tickets.tickets set ticket_type_id = (select id from tickets.ticket_types y"
    f" where y.id <> ticket_type_id order by id limit 1) where id = {ANY_SUCCESSOR}",
    ("a transferred ticket", "was bought first"): "update tickets.tickets n set purchased_at = o.purchased_at - interval '1 second'"
    f" from tickets.tickets o where o.id = n.transferred_from and n.id = {ANY_SUCCESSOR}",
    ("a transferred ticket", "is free for both or none"): "update tickets.tickets set is_complimentary = not is_complimentary"
    f" where id = {ANY_SUCCESSOR}",
    ("tickets are checked in", "cancelled before"): "update tickets.tickets set cancelled_at = purchased_at - interval '1 minute'"
    " where id = (select id from tickets.tickets where cancelled_at is not null order by id limit 1)",
    ("tickets are checked in", "without a moment"): "alter table tickets.tickets drop constraint tickets_checked_in;"
    " update tickets.tickets set checked_in_at = null where id ="
    " (select id from tickets.tickets where status = 'checked_in' order by id limit 1)",
    ("tickets are checked in", "a moment alone"): f"update tickets.tickets set checked_in_at = clock_timestamp() where id = {ANY_TICKET}",
    ("tickets cancelled or refunded", "cancelled"): "alter table tickets.tickets drop constraint tickets_cancelled;"
    " update tickets.tickets set cancelled_at = null where id = (select id from tickets.tickets where status = 'cancelled'"
    " order by id limit 1)",
    ("tickets cancelled or refunded", "the refund says no moment"): "update payments.refunds r set status = 'pending', refunded_at = null,"
    " reversed_at = null from tickets.tickets t where t.id = r.ticket_id and t.status = 'refunded' and t.cancelled_at is null",
    ("the newest quantity", "there is none"): f"delete from tickets.ticket_type_capacity_log where ticket_type_id = {ANY_TYPE}",
    ("the newest quantity", "an older one is"): "insert into tickets.ticket_type_capacity_log (ticket_type_id, quantity, valid_from)"
    f" select id, quantity + 1, clock_timestamp() from tickets.ticket_types where id = {ANY_TYPE}",
    ("time zones", "of an event"): "update events.events set timezone = 'FOO+3' where id = (select id from events.events order by id limit 1)",
    ("e-mail addresses", "example.org of somebody"): "update users.users set email = 'a@example.org.co' where id ="
    " (select id from users.users order by id limit 1)",
    ("e-mail addresses", "an organization that is no example"): "update users.users set email = 'a@myexample.org' where id ="
    " (select id from users.users order by id limit 1)",
    **{
        ("nothing lies", f"{table}.{column}"): f"update {table} set {column} = {LATER}{besides} where id ="
        f" (select id from {table} where {where} order by id limit 1)"
        for table, where, columns in (
            ("payments.payments", "captured_at is not null", ("created_at", "updated_at", "captured_at", "deleted_at")),
            ("payments.refunds", "status = 'succeeded'", ("created_at", "updated_at", "refunded_at", "reversed_at")),
            ("payments.chargebacks", "status <> 'won'", ("created_at", "updated_at", "reversed_at")),
            ("tickets.tickets", "status = 'checked_in'", ("purchased_at", "updated_at", "checked_in_at", "cancelled_at")),
            ("events.events", "true", ("created_at", "updated_at")),
        )
        for column in columns
        for besides in [
            {"payments.refunds.reversed_at": ", status = 'reversed'", "payments.chargebacks.reversed_at": ", status = 'won'"}
            .get(f"{table}.{column}", "")
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize(("start", "way"), FURTHER)
def test_each_way_to_break_a_rule_is_found(owner: Connection, start: str, way: str) -> None:
    for table in ("users.users", "payments.payments", "payments.payment_items", "payments.refunds", "payments.chargebacks",
                  "tickets.tickets", "tickets.ticket_types", "tickets.ticket_type_capacity_log", "events.events"):  # fmt: skip
        owner.execute(f"alter table {table} disable trigger user".encode())
    for statement in FURTHER[start, way].split(";"):
        planted = owner.execute(statement.encode()).rowcount
    assert planted != 0
    found = [verdict for verdict in examine(owner) if verdict.rule.startswith(start)]
    assert [verdict.offenders > 0 for verdict in found] == [True]
