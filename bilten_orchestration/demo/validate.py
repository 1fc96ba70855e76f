"""What a load of demo data, and the traffic behind it, are held to: the rules of the trade, and more.

A load switches the triggers off, so everything that a trigger would have refused is looked for once at the
end, in the same transaction, over whole tables. The further rules are what triggers keep, what the generator
promises, and what holds once orders have come to an end.
"""

from __future__ import annotations

from bilten_orchestration import trade_rules
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.stores.postgres import Connection
from bilten_orchestration.trade_rules import Rule, Verdict

RULES = (
    *trade_rules.RULES,
    Rule(
        "items have no more decimals than their payment's currency",
        """
        select i.id::text from payments.payment_items i join payments.payments p on p.id = i.payment_id
        join financial.currencies c on c.code = p.currency where i.amount <> round(i.amount, c.minor_unit)
        """,
    ),
    Rule(
        "refunds have no more decimals than their payment's currency",
        """
        select r.id::text from payments.refunds r join payments.payments p on p.id = r.payment_id
        join financial.currencies c on c.code = p.currency
        where (r.amount, r.fee_amount, r.tax_amount)
           <> (round(r.amount, c.minor_unit), round(r.fee_amount, c.minor_unit), round(r.tax_amount,
           c.minor_unit))
        """,
    ),
    Rule(
        "chargebacks have no more decimals than their payment's currency",
        """
        select b.id::text from payments.chargebacks b join payments.payments p on p.id = b.payment_id
        join financial.currencies c on c.code = p.currency
        where (b.amount, b.dispute_fee) <> (round(b.amount, c.minor_unit), round(b.dispute_fee, c.minor_unit))
        """,
    ),
    Rule(
        "money comes back only after it was taken, and at most what was taken",
        """
        select p.id::text from payments.payments p join (
            select payment_id, refunded_at as at from payments.refunds where status <> 'failed'
            union all select payment_id, charged_back_at from payments.chargebacks) f on f.payment_id = p.id
        where p.captured_at is null or f.at < p.captured_at
        union all
        select b.payment_id::text from payments.chargebacks b join payments.payments p on p.id = b.payment_id
        group by b.payment_id, p.amount having sum(b.amount) filter (where b.status <> 'won') > p.amount
        """,
    ),
    Rule(
        "items and refunds name a ticket of their payment's event, and of their payment",
        """
        with recursive origin as (
            select id as ticket_id, payment_id from tickets.tickets where transferred_from is null
            union all
            select t.id, o.payment_id
            from tickets.tickets t join origin o on o.ticket_id = t.transferred_from)
        select i.id::text from payments.payment_items i join tickets.tickets t on t.id = i.ticket_id
        join payments.payments p on p.id = i.payment_id
        where t.event_id <> p.event_id
           or i.item_type = 'ticket' and t.payment_id is distinct from i.payment_id
        union all
        select r.id::text from payments.refunds r join tickets.tickets t on t.id = r.ticket_id
        join payments.payments p on p.id = r.payment_id left join origin o on o.ticket_id = r.ticket_id
        where t.event_id <> p.event_id or o.payment_id is distinct from r.payment_id
        """,
    ),
    Rule(
        "a payment's status is what its refunds and disputes make it",
        """
        select p.id::text from payments.payments p
        left join (select payment_id, sum(amount) as amount from payments.refunds where status = 'succeeded'
                   group by payment_id) r on r.payment_id = p.id
        left join (select payment_id from payments.chargebacks where status <> 'won' group by payment_id) b
               on b.payment_id = p.id
        where p.captured_at is not null and p.status::text <> case
            when b.payment_id is not null then 'disputed'
            when r.amount = p.amount then 'refunded'
            when r.amount > 0 then 'partially_refunded'
            else 'captured' end
        """,
    ),
    Rule(
        "captured_at stands exactly where money was taken, and not before the order",
        """
        select id::text from payments.payments
        where (captured_at is not null) <> (status not in ('pending', 'failed')) or captured_at < created_at
        """,
    ),
    Rule(
        "tickets of payments that were not captured, or are deleted, hold no seat",
        """
        select t.id::text from tickets.tickets t join payments.payments p on p.id = t.payment_id
        where (p.captured_at is null or p.deleted_at is not null) and t.status in ('active', 'checked_in')
          and p.created_at < now() - interval '1 hour'
        """,
    ),
    Rule(
        "a transferred ticket has one successor, of the same type",
        """
        select coalesce(o.id, n.id)::text from (select * from tickets.tickets where status = 'transferred') o
        full join (select * from tickets.tickets
            where transferred_from is not null) n on n.transferred_from = o.id
        where o.id is null or n.id is null or o.ticket_type_id <> n.ticket_type_id
           or n.purchased_at < o.purchased_at or o.is_complimentary <> n.is_complimentary
        """,
    ),
    Rule(
        "tickets are checked in and cancelled after they were bought",
        """
        select id::text from tickets.tickets
        where checked_in_at < purchased_at or cancelled_at < purchased_at
           or (status = 'checked_in') <> (checked_in_at is not null)
        """,
    ),
    # else no metric would ever count them as cancelled (docs/metrics-rules.md)
    Rule(
        "tickets cancelled or refunded say when: themselves, or in a refund that names them",
        """
        select t.id::text from tickets.tickets t
        where t.status in ('cancelled', 'refunded') and t.cancelled_at is null
          and not exists (
              select from payments.refunds r where r.ticket_id = t.id and r.refunded_at is not null)
        """,
    ),
    Rule(
        "the newest quantity in the capacity log is the ticket type's",
        """
        select y.id::text from tickets.ticket_types y left join (
            select distinct on (ticket_type_id) ticket_type_id, quantity from tickets.ticket_type_capacity_log
            order by ticket_type_id, valid_from desc) l on l.ticket_type_id = y.id
        where l.quantity is distinct from y.quantity
        """,
    ),
    Rule(
        "time zones are known by name",
        """
        select z.key from (
            select id::text as key, timezone from users.organizations
            union all select id::text, timezone from events.events) z
        left join pg_timezone_names n on n.name = z.timezone where n.name is null
        """,
    ),
    Rule(
        "nothing lies in the future",
        """
        select id::text from payments.payments
            where greatest(created_at, updated_at, captured_at, deleted_at) > clock_timestamp()
        union all select id::text from payments.refunds
            where greatest(created_at, updated_at, refunded_at, reversed_at) > clock_timestamp()
        union all select id::text from payments.chargebacks
            where greatest(created_at, updated_at, charged_back_at, reversed_at) > clock_timestamp()
        union all select id::text from tickets.tickets
            where greatest(purchased_at, checked_in_at, cancelled_at, updated_at) > clock_timestamp()
        union all select id::text from events.events
            where greatest(created_at, updated_at) > clock_timestamp()
        """,
    ),
    Rule(
        "e-mail addresses are of example domains",
        r"select id::text from users.users where email !~ '@example\.(org|com|net)$'",
    ),
)


def examine(connection: Connection, progress: Progress = silent) -> tuple[Verdict, ...]:
    """Every rule over everything that the connection sees; nothing is changed."""
    return trade_rules.examine(connection, RULES, progress)


def require(verdicts: tuple[Verdict, ...]) -> None:
    """Raises Mismatch with one problem per broken rule."""
    problems = [
        Problem(
            f"broken: {verdict.rule}",
            expected="0 rows",
            found=f"{verdict.offenders} rows, such as {', '.join(verdict.sample)}",
            next="nothing of this load was kept; report the seed, scale and day with this message",
        )
        for verdict in verdicts
        if verdict.offenders
    ]
    if problems:
        raise Mismatch(problems)
