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
    "e-mail addresses": "update users.users set email = 'somebody@elsewhere.net' where id = (select id from users.users limit 1)",
}  # fmt: skip


def test_every_rule_has_its_violation_here() -> None:
    for rule in RULES:
        assert [start for start in PLANTED if rule.name.startswith(start)], rule.name
    assert len(PLANTED) == len(RULES)


def test_a_load_breaks_no_rule(owner: Connection) -> None:
    require(examine(owner))


@pytest.mark.parametrize("start", PLANTED)
def test_a_planted_violation_is_found(owner: Connection, start: str) -> None:
    for table in ("users.organizations", "users.users", "payments.payments", "payments.payment_items",
                  "payments.refunds", "payments.chargebacks", "tickets.tickets", "tickets.ticket_types"):  # fmt: skip
        owner.execute(f"alter table {table} disable trigger user".encode())
    assert owner.execute(PLANTED[start].encode()).rowcount > 0
    verdicts = {verdict.rule: verdict for verdict in examine(owner)}
    found = [rule for rule in verdicts if rule.startswith(start)]
    assert len(found) == 1
    assert verdicts[found[0]].offenders >= 1
    assert verdicts[found[0]].sample
    with pytest.raises(Mismatch, match="broken"):
        require(tuple(verdicts.values()))
