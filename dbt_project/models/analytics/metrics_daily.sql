{{ config(materialized='view', tags=['whole'], contract={'enforced': true}) }}
-- Names of metrics say what may be added up: those of another grain than the event's carry its name in front.
{%- set money_and_counts = [
    'gross_sales', 'refunds', 'refund_reversals', 'chargebacks', 'chargeback_reversals', 'fees', 'tax', 'refunded_fees',
    'refunded_tax', 'dispute_fees', 'net_revenue', 'paid_orders', 'tickets_sold', 'comp_tickets', 'tickets_cancelled',
    'check_ins'
] -%}
{%- set ticket_types = ['ticket_face_sales', 'tickets_sold', 'comp_tickets', 'tickets_cancelled', 'check_ins', 'capacity'] -%}
{%- set states = ['visitors', 'sessions', 'buyers', 'funnel_viewed', 'funnel_checkout', 'funnel_purchased'] %}
select
    metric_date as date,
    organization_id,
    organizer_id,
    event_id,
    cell.1 as metric_name,
    cell.2 as metric_value,
    cast(map('currency', toString(currency)) as Map(String, String)) as dimensions
from {{ ref('fct_event_sales_daily') }}
array join [
    {%- for metric in money_and_counts %}
    ('{{ metric }}', toDecimal128({{ metric }}, 3)){{ ',' if not loop.last }}
    {%- endfor %}
] as cell
where cell.2 <> 0

union all

select
    metric_date as date,
    organization_id,
    organizer_id,
    event_id,
    cell.1 as metric_name,
    cell.2 as metric_value,
    cast(map('currency', toString(currency), 'ticket_type_id', toString(ticket_type_id)) as Map(String, String))
        as dimensions
from {{ ref('fct_ticket_type_sales_daily') }}
array join [
    {%- for metric in ticket_types %}
    ('ticket_type_{{ metric | replace('ticket_face', 'face') }}', toDecimal128({{ metric }}, 3)){{ ',' if not loop.last }}
    {%- endfor %}
] as cell
where cell.2 <> 0

union all

select
    metric_date as date,
    organization_id,
    organizer_id,
    event_id,
    cell.1 as metric_name,
    cell.2 as metric_value,
    cast(map() as Map(String, String)) as dimensions
from {{ ref('fct_event_audience_daily') }}
array join [
    ('page_views', toDecimal128(page_views, 3)),
    {%- for metric in states %}
    ('{{ metric }}', toDecimal128(finalizeAggregation({{ metric }}), 3)){{ ',' if not loop.last }}
    {%- endfor %}
] as cell
where cell.2 <> 0

union all

select
    metric_date as date,
    organization_id,
    {{ zero_uuid() }} as organizer_id,
    {{ zero_uuid() }} as event_id,
    cell.1 as metric_name,
    cell.2 as metric_value,
    cast(map() as Map(String, String)) as dimensions
from {{ ref('fct_organization_audience_daily') }}
array join [
    ('organization_page_views', toDecimal128(page_views, 3)),
    {%- for metric in states %}
    ('organization_{{ metric }}', toDecimal128(finalizeAggregation({{ metric }}), 3)){{ ',' if not loop.last }}
    {%- endfor %}
] as cell
where cell.2 <> 0

union all

select
    metric_date as date,
    organization_id,
    organizer_id,
    event_id,
    cell.1 as metric_name,
    cell.2 as metric_value,
    cast(map('source', source, 'medium', medium, 'campaign', campaign, 'currency', toString(currency)) as Map(String, String))
        as dimensions
from {{ ref('fct_traffic_sources_daily') }}
array join [
    ('traffic_sessions', toDecimal128(sessions, 3)),
    ('traffic_paid_orders', toDecimal128(paid_orders, 3)),
    ('traffic_gross_sales', toDecimal128(gross_sales, 3))
] as cell
where cell.2 <> 0
