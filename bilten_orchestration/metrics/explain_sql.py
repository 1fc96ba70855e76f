"""The statements of `explain`: facts of one event and day, as ClickHouse posts and PostgreSQL holds them.

Written from the definitions (docs/metrics.md), on purpose not from the statements that compute control
totals or marts: an error in one of them must not be repeated here. No column of a person is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["postings", "movements", "items"]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is made: which kinds of facts it adds up, and what each of them counts.

    `posted` is an expression over int_postings; `held` one over the facts read from PostgreSQL, which
    carry amount, fee, tax and dispute_fee unsigned.
    """

    source: Source
    kinds: tuple[str, ...]
    posted: str = "1"
    held: str = "1"
    mart: str = "fct_event_sales_daily"


_NET = (
    "case when kind in ('payment', 'refund_reversal', 'chargeback_reversal') then 1 else -1 end"
    " * (amount - fee - tax)"
)
_GIVEN_BACK = "case kind when 'refund' then {} else -{} end"
_MONEY = ("payment", "refund", "refund_reversal", "chargeback", "chargeback_reversal")

METRICS: dict[str, Metric] = {
    "gross_sales": Metric("postings", ("payment",), "amount", "amount"),
    "fees": Metric("postings", ("payment",), "fee_amount", "fee"),
    "tax": Metric("postings", ("payment",), "tax_amount", "tax"),
    "paid_orders": Metric("postings", ("payment",)),
    "refunds": Metric("postings", ("refund",), "-amount", "amount"),
    "refund_reversals": Metric("postings", ("refund_reversal",), "amount", "amount"),
    "refunded_fees": Metric(
        "postings", ("refund", "refund_reversal"), "-fee_amount", _GIVEN_BACK.format("fee", "fee")
    ),
    "refunded_tax": Metric(
        "postings", ("refund", "refund_reversal"), "-tax_amount", _GIVEN_BACK.format("tax", "tax")
    ),
    "chargebacks": Metric("postings", ("chargeback",), "-amount", "amount"),
    "chargeback_reversals": Metric("postings", ("chargeback_reversal",), "amount", "amount"),
    "dispute_fees": Metric("postings", ("chargeback",), "dispute_fee", "dispute_fee"),
    "net_revenue": Metric("postings", _MONEY, "net_amount", _NET),
    "tickets_sold": Metric("movements", ("sold",)),
    "comp_tickets": Metric("movements", ("comp",)),
    "tickets_cancelled": Metric("movements", ("cancelled",)),
    "check_ins": Metric("movements", ("checked_in",)),
    "ticket_face_sales": Metric("items", ("ticket",), "amount", "amount", mart="fct_ticket_type_sales_daily"),
}

# ClickHouse. Columns of each: kind, row id, payment or ticket type, moment (UTC), currency, value.
POSTED: dict[Source, str] = {
    "postings": """
        select posting_type, toString(source_id), toString(payment_id), posted_at, toString(currency), {value}
        from intermediate.int_postings
        where metric_date = {{day:Date32}} and event_id = {{event:UUID}}
          and posting_type in {{kinds:Array(String)}}
        order by posted_at, source_id
    """,
    "movements": """
        select movement_type, toString(ticket_id), toString(ticket_type_id), moved_at,
               toString(currency), {value}
        from intermediate.int_ticket_movements
        where metric_date = {{day:Date32}} and event_id = {{event:UUID}}
          and movement_type in {{kinds:Array(String)}}
        order by moved_at, ticket_id
    """,
    "items": """
        select items.item_type, toString(items.id), toString(items.ticket_id), payments.captured_at,
               toString(payments.currency), items.{value}
        from staging.stg_bilten__payment_items as items
        inner join staging.stg_bilten__payments as payments on items.payment_id = payments.id
        where payments.captured_date = {{day:Date32}} and payments.event_id = {{event:UUID}}
          and payments.deleted_at is null and items.item_type in {{kinds:Array(String)}}
        order by payments.captured_at, items.id
    """,
}

# PostgreSQL. Facts of one event with their moment; the day is local in the organization's zone.
_ZONE = """
    with zone as (
        select coalesce(o.timezone, 'UTC') as name
        from events.events e left join users.organizations o on o.id = e.organization_id
        where e.id = %(event)s
    )
"""

_MONEY_FACTS = """
    , paid as (
        select id, captured_at, currency, amount, fee_amount, tax_amount
        from payments.payments where event_id = %(event)s and deleted_at is null
    ),
    facts as (
        select 'payment' as kind, 'payments.payments' as table_name, id, captured_at as moment, currency,
               amount, fee_amount as fee, tax_amount as tax, 0::numeric as dispute_fee
        from paid where captured_at is not null
        union all
        select 'refund', 'payments.refunds', r.id, r.refunded_at, p.currency,
               r.amount, r.fee_amount, r.tax_amount, 0
        from payments.refunds r join paid p on p.id = r.payment_id where r.refunded_at is not null
        union all
        select 'refund_reversal', 'payments.refunds', r.id, r.reversed_at, p.currency,
               r.amount, r.fee_amount, r.tax_amount, 0
        from payments.refunds r join paid p on p.id = r.payment_id where r.reversed_at is not null
        union all
        select 'chargeback', 'payments.chargebacks', c.id, c.charged_back_at, p.currency,
               c.amount, 0, 0, c.dispute_fee
        from payments.chargebacks c join paid p on p.id = c.payment_id
        union all
        select 'chargeback_reversal', 'payments.chargebacks', c.id, c.reversed_at, p.currency,
               c.amount, 0, 0, 0
        from payments.chargebacks c join paid p on p.id = c.payment_id where c.reversed_at is not null
    )
"""

_TICKET_FACTS = """
    , paid as (
        select id, captured_at, currency from payments.payments
        where event_id = %(event)s and deleted_at is null and captured_at is not null
    ),
    issued as (
        select t.*, p.captured_at, coalesce(p.currency, tt.currency) as paid_currency,
               tt.currency as type_currency
        from tickets.tickets t join tickets.ticket_types tt on tt.id = t.ticket_type_id
        left join paid p on p.id = t.payment_id
        where t.event_id = %(event)s and (t.payment_id is null or p.id is not null)
    ),
    given_back as (
        select r.ticket_id, min(r.refunded_at) as refunded_at
        from payments.refunds r join payments.payments p on p.id = r.payment_id and p.deleted_at is null
        where r.refunded_at is not null and r.ticket_id in (select id from issued)
        group by r.ticket_id
    ),
    facts as (
        select 'sold' as kind, 'tickets.tickets' as table_name, id,
               coalesce(captured_at, purchased_at) as moment, paid_currency as currency
        from issued where transferred_from is null and not is_complimentary
        union all
        select 'comp', 'tickets.tickets', id, purchased_at, type_currency
        from issued where transferred_from is null and is_complimentary
        union all
        select 'checked_in', 'tickets.tickets', id, checked_in_at, type_currency
        from issued where checked_in_at is not null
        union all
        select 'cancelled', 'tickets.tickets', i.id, least(i.cancelled_at, g.refunded_at), i.paid_currency
        from issued i left join given_back g on g.ticket_id = i.id
        where least(i.cancelled_at, g.refunded_at) is not null
          and not exists (select from tickets.tickets next where next.transferred_from = i.id)
    )
"""

_ITEM_FACTS = """
    , facts as (
        select i.item_type::text as kind, 'payments.payment_items' as table_name, i.id,
               p.captured_at as moment, p.currency, i.amount
        from payments.payment_items i join payments.payments p on p.id = i.payment_id
        where p.event_id = %(event)s and p.deleted_at is null and p.captured_at is not null
    )
"""

_ROWS = """
    select kind, table_name, facts.id::text, moment, currency::text, ({value})::numeric
    from facts cross join zone
    where (moment at time zone zone.name)::date = %(day)s and kind = any(%(kinds)s)
    order by moment, facts.id
"""

HELD: dict[Source, str] = {
    "postings": _ZONE + _MONEY_FACTS + _ROWS,
    "movements": _ZONE + _TICKET_FACTS + _ROWS,
    "items": _ZONE + _ITEM_FACTS + _ROWS,
}
