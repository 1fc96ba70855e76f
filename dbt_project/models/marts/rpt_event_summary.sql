{{ config(materialized='table', tags=['whole'], order_by=['organization_id', 'organizer_id', 'event_id', 'currency']) }}
-- Numerators and denominators, no ratios: those of two events cannot be averaged, these can be added up.
with sales as (
    select
        event_id,
        toString(currency) as currency,
        sum(gross_sales) as gross_sales,
        sum(refunds) - sum(refund_reversals) as refunded,
        sum(chargebacks) - sum(chargeback_reversals) as charged_back,
        sum(net_revenue) as net_revenue,
        sum(paid_orders) as paid_orders,
        sum(tickets_sold) as tickets_sold,
        sum(comp_tickets) as comp_tickets,
        sum(tickets_cancelled) as tickets_cancelled,
        sum(check_ins) as check_ins
    from {{ ref('fct_event_sales_daily') }}
    group by event_id, currency
),

-- Not check_ins: those hold tickets that were refunded after the door, and stand in the currency of their type.
scanned as (
    select
        event_id,
        toString(paid_currency) as currency,
        count() as held_tickets
    from {{ ref('int_ticket_movements') }}
    where movement_type = 'checked_in' and not is_ended
    group by event_id, paid_currency
),

lead_times as (
    select
        sales.event_id as event_id,
        toString(sales.currency) as currency,
        toInt32(quantileExactWeighted(0.5)(dateDiff('day', sales.metric_date, events.start_local_date), sales.tickets_sold))
            as median_days_before
    from {{ ref('fct_event_sales_daily') }} as sales
    inner join {{ ref('dim_events') }} as events on sales.event_id = events.event_id
    where sales.tickets_sold > 0
    group by sales.event_id, sales.currency
)

select
    events.organization_id as organization_id,
    events.organizer_id as organizer_id,
    events.event_id as event_id,
    -- ISO 4217 for "no currency": an event that never sold has a row all the same
    toLowCardinality(if(sales.currency = '', 'XXX', sales.currency)) as currency,
    events.title as title,
    events.category as category,
    events.status as status,
    events.start_local_date as start_local_date,
    events.end_at <= now64(6) as is_over,
    events.seats_offered as seats_offered,
    sales.gross_sales as gross_sales,
    sales.refunded as refunded,
    sales.charged_back as charged_back,
    sales.net_revenue as net_revenue,
    sales.paid_orders as paid_orders,
    sales.tickets_sold as tickets_sold,
    sales.comp_tickets as comp_tickets,
    sales.tickets_cancelled as tickets_cancelled,
    toInt64(sales.tickets_sold) + toInt64(sales.comp_tickets) - toInt64(sales.tickets_cancelled) as tickets_held,
    sales.check_ins as check_ins,
    if(
        events.end_at <= now64(6) and events.status <> 'cancelled',
        greatest(
            toInt64(sales.tickets_sold) + toInt64(sales.comp_tickets)
            - toInt64(sales.tickets_cancelled) - toInt64(scanned.held_tickets), 0
        ),
        toInt64(0)
    ) as no_shows,
    if(sales.tickets_sold > 0, lead_times.median_days_before, null) as median_days_before
from {{ ref('dim_events') }} as events
left join sales on events.event_id = sales.event_id
left join scanned on sales.event_id = scanned.event_id and sales.currency = scanned.currency
left join lead_times on sales.event_id = lead_times.event_id and sales.currency = lead_times.currency
