"""The statements of `explain`: facts of one event and day, as ClickHouse posts and PostgreSQL holds them.

Written from the definitions (docs/metrics.md), on purpose not from the statements that compute control
totals or marts: an error in one of them must not be repeated here. No column of a person is read.

Clicks are in no PostgreSQL: where a metric counts them, its rows are those of analytics.events as they lie
there, cleaned anew, and its postings those of intermediate.int_clicks_cleaned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Source = Literal["postings", "movements", "items", "capacity", "buyers", "views", "ids", "funnel"]
NO_CURRENCY = "XXX"


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is made: which kinds of facts it adds up, and what each of them counts.

    `posted` is an expression over int_postings; `held` one over the facts read from PostgreSQL, which
    carry amount, fee, tax and dispute_fee unsigned. `column` is that of the mart, where it is called
    otherwise than the metric.
    """

    source: Source
    kinds: tuple[str, ...]
    posted: str = "1"
    held: str = "1"
    mart: str = "fct_event_sales_daily"
    column: str | None = None


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

AUDIENCE = "fct_event_audience_daily"
TRAFFIC = "fct_traffic_sources_daily"
TYPES = "fct_ticket_type_sales_daily"

# Names of another grain carry it in front, as in analytics.metrics_daily.
METRICS |= {
    "capacity": Metric("capacity", ("capacity",), "capacity", "capacity", mart=TYPES),
    **{
        f"ticket_type_{name}": replace(METRICS[name], mart=TYPES, column=name)
        for name in ("tickets_sold", "comp_tickets", "tickets_cancelled", "check_ins")
    },
    "page_views": Metric("views", ("page_view",), mart=AUDIENCE),
    "visitors": Metric("ids", ("visitor_id",), mart=AUDIENCE),
    "sessions": Metric("ids", ("session_id",), mart=AUDIENCE),
    "buyers": Metric("buyers", ("buyer",), mart=AUDIENCE),
    "funnel_viewed": Metric("funnel", ("1", "2", "3"), mart=AUDIENCE),
    "funnel_checkout": Metric("funnel", ("2", "3"), mart=AUDIENCE),
    "funnel_purchased": Metric("funnel", ("3",), mart=AUDIENCE),
    "traffic_sessions": Metric("ids", ("session_id",), mart=TRAFFIC, column="sessions"),
    "traffic_paid_orders": replace(METRICS["paid_orders"], mart=TRAFFIC, column="paid_orders"),
    "traffic_gross_sales": replace(METRICS["gross_sales"], mart=TRAFFIC, column="gross_sales"),
}
STATES = frozenset({"visitors", "sessions", "buyers", "funnel_viewed", "funnel_checkout", "funnel_purchased"})
WITHOUT_CURRENCY = STATES | {"page_views", "traffic_sessions"}

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
    "capacity": """
        select 'capacity', toString(types.ticket_type_id), '', toDateTime64(log.holds_from_date, 6, 'UTC'),
               types.currency, log.{value}
        from (
            select distinct ticket_type_id, toString(currency) as currency, metric_date
            from intermediate.int_ticket_movements
            where metric_date = {{day:Date32}} and event_id = {{event:UUID}}
            union distinct
            select distinct tickets.ticket_type_id, toString(payments.currency), {{day:Date32}}
            from staging.stg_bilten__payment_items as items
            inner join staging.stg_bilten__payments as payments on items.payment_id = payments.id
            inner join staging.stg_bilten__tickets as tickets on items.ticket_id = tickets.id
            where payments.captured_date = {{day:Date32}} and payments.event_id = {{event:UUID}}
              and payments.deleted_at is null and items.item_type = 'ticket'
        ) as types
        asof join intermediate.int_ticket_type_capacity as log
            on types.ticket_type_id = log.ticket_type_id and types.metric_date >= log.holds_from_date
        where has({{kinds:Array(String)}}, 'capacity')
        order by types.ticket_type_id
    """,
    "buyers": """
        select 'buyer', toString(user_id), '', min(posted_at), 'XXX', {value}
        from intermediate.int_postings
        where metric_date = {{day:Date32}} and event_id = {{event:UUID}} and posting_type = 'payment'
          and has({{kinds:Array(String)}}, 'buyer')
        group by user_id order by 4, 2
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

_CAPACITY_FACTS = """
    , moved as (
        select distinct t.ticket_type_id, m.currency
        from (select id, moment, currency from facts) m join tickets.tickets t on t.id = m.id cross join zone
        where (m.moment at time zone zone.name)::date = %(day)s
        union
        select distinct t.ticket_type_id, p.currency
        from payments.payment_items i join payments.payments p on p.id = i.payment_id
        join tickets.tickets t on t.id = i.ticket_id cross join zone
        where p.event_id = %(event)s and p.deleted_at is null and i.item_type = 'ticket'
          and (p.captured_at at time zone zone.name)::date = %(day)s
    )
    select 'capacity', 'tickets.ticket_types', m.ticket_type_id::text, log.valid_from, m.currency::text,
           log.quantity
    from moved m cross join zone
    cross join lateral (
        select l.valid_from, l.quantity
        from tickets.ticket_type_capacity_log l
        where l.ticket_type_id = m.ticket_type_id
        -- the newest that had begun by the end of the day, else the first of all
        order by ((l.valid_from at time zone zone.name)::date <= %(day)s) desc,
                 case when (l.valid_from at time zone zone.name)::date <= %(day)s then l.valid_from end desc,
                 l.valid_from
        limit 1
    ) log
    where 'capacity' = any(%(kinds)s)
    order by log.valid_from, m.ticket_type_id
"""

_BUYER_FACTS = """
    select 'buyer', 'payments.payments', user_id::text, min(captured_at), 'XXX', 1
    from payments.payments cross join zone
    where event_id = %(event)s and deleted_at is null and captured_at is not null and 'buyer' = any(%(kinds)s)
      and (captured_at at time zone zone.name)::date = %(day)s
    group by user_id order by 4, 3
"""

HELD: dict[Source, str] = {
    "postings": _ZONE + _MONEY_FACTS + _ROWS,
    "movements": _ZONE + _TICKET_FACTS + _ROWS,
    "items": _ZONE + _ITEM_FACTS + _ROWS,
    "capacity": _ZONE + _TICKET_FACTS + _CAPACITY_FACTS,
    "buyers": _ZONE + _BUYER_FACTS,
}

# ClickHouse. Clicks of one event without bots, as intermediate has them and as analytics.events does.
# Programs and the limit are those of dbt_project/macros/audience.sql.
PROGRAMS = (
    *("bot", "crawl", "spider", "slurp", "headless", "phantomjs", "python-", "curl/", "wget/", "java/"),
    *("go-http", "okhttp", "scrapy", "preview", "monitor", "lighthouse"),
)
BOT_CLICKS_PER_MINUTE = 60
_AROUND = """
    local_date between {day:Date32} and {day:Date32} + 2
    and created_date between {day:Date32} - 1 and {day:Date32} + 3
"""
_CLEANED = f"""
    with clicks as (
        select * from intermediate.int_clicks_cleaned where event_id = {{event:UUID}} and {_AROUND}
    ),
    payments as (
        select user_id, posted_at as at from intermediate.int_postings
        where posting_type = 'payment' and event_id = {{event:UUID}}
          and metric_date between {{day:Date32}} and {{day:Date32}} + 2
    )
"""
_AS_THEY_LIE = f"""
    with once as (
        select click_id, event_id, session_id, visitor_id, user_id, event_type, timestamp, local_date,
               created_date
        from analytics.events
        where {_AROUND} and not multiSearchAnyCaseInsensitive(user_agent, {list(PROGRAMS)})
        limit 1 by event_type, timestamp, click_id
    ),
    fast as (
        select local_date, created_date, visitor_id
        from once group by local_date, created_date, visitor_id, toStartOfMinute(timestamp)
        having count() > {BOT_CLICKS_PER_MINUTE}
    ),
    clicks as (
        select * from once
        where event_id = {{event:UUID}} and (local_date, created_date, visitor_id) not in (select * from fast)
    ),
    payments as (
        select user_id, assumeNotNull(captured_at) as at from bilten_raw.payments_payments final
        where event_id = {{event:UUID}} and deleted_at is null and captured_at is not null
          and captured_date between {{day:Date32}} and {{day:Date32}} + 2
    )
"""
_EACH_VIEW = """
    select 'page_view', toString(click_id), '', min(timestamp) as at, 'XXX', 1
    from clicks where local_date = {day:Date32} and event_type in {kinds:Array(String)}
    group by click_id order by at, click_id
"""
_EACH_ID = """
    select {kinds:Array(String)}[1] as kind, toString(if(kind = 'visitor_id', visitor_id, session_id)) as id,
           '', min(timestamp) as at, 'XXX', 1
    from clicks where local_date = {day:Date32} group by id order by at, id
"""
_EACH_BROWSER = """
    , checkouts as (
        select visitor_id, groupArray(toUnixTimestamp64Micro(toDateTime64(timestamp, 6, 'UTC'))) as moments
        from clicks where event_type = 'checkout_started' group by visitor_id
    ),
    purchases as (
        select logins.visitor_id as visitor_id,
               groupArray(toUnixTimestamp64Micro(toDateTime64(payments.at, 6, 'UTC'))) as moments
        from (
            select distinct visitor_id, user_id from clicks
            where user_id <> toUUID('00000000-0000-0000-0000-000000000000')
        ) as logins
        inner join payments on payments.user_id = logins.user_id
        group by logins.visitor_id
    ),
    views as (
        select visitor_id, timestamp, toUnixTimestamp64Micro(toDateTime64(timestamp, 6, 'UTC')) as view
        from clicks where local_date = {day:Date32} and event_type = 'page_view'
    )
    select toString(max(multiIf(
               not arrayExists(c -> c between view and view + 86400000000, checkouts.moments), 1,
               not arrayExists(
                   c -> c between view and view + 86400000000
                       and arrayExists(p -> p between c and view + 86400000000, purchases.moments),
                   checkouts.moments), 2,
               3))) as reached,
           toString(views.visitor_id) as id, '', min(views.timestamp) as at, 'XXX', 1
    from views
    left join checkouts on views.visitor_id = checkouts.visitor_id
    left join purchases on views.visitor_id = purchases.visitor_id
    group by views.visitor_id
    having has({kinds:Array(String)}, reached)
    order by at, id
"""
_OF_CLICKS: dict[Source, str] = {"views": _EACH_VIEW, "ids": _EACH_ID, "funnel": _EACH_BROWSER}
POSTED_CLICKS: dict[Source, str] = {source: _CLEANED + each for source, each in _OF_CLICKS.items()}
HELD_CLICKS: dict[Source, str] = {source: _AS_THEY_LIE + each for source, each in _OF_CLICKS.items()}
