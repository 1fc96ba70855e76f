{{ config(
    materialized='table',
    tags=['daily'],
    engine='MergeTree()',
    order_by=['organization_id', 'organizer_id', 'event_id', 'source', 'medium', 'campaign', 'currency'],
    partition_by='metric_date',
    pre_hook="{{ forget_verdicts() }}",
) }}
{%- set touch_days = 30 %}
with touches as (
    select
        session_id,
        any(visitor_id) as visitor_id,
        max(user_id) as user_id,
        min(parts.touched_at) as touched_at,
        argMin(source, parts.touched_at) as source,
        argMin(medium, parts.touched_at) as medium,
        argMin(campaign, parts.touched_at) as campaign
    from {{ ref('int_session_touches') }} as parts
    where {{ around_run_days('created_date', back=touch_days) }}
    group by session_id
),

visits as (
    select
        local_date as metric_date,
        organization_id,
        organizer_id,
        event_id,
        session_id
    from {{ ref('int_clicks_cleaned') }}
    where
        {{ in_run_days('local_date') }}
        and {{ around_run_days('created_date') }}
        and event_id <> {{ zero_uuid() }}
    group by local_date, organization_id, organizer_id, event_id, session_id
),

payments as (
    select
        metric_date,
        organization_id,
        organizer_id,
        event_id,
        user_id,
        currency,
        payment_id,
        amount,
        posted_at
    from {{ ref('int_postings') }}
    where posting_type = 'payment' and {{ in_run_days('metric_date') }}
),

browsers_of_buyers as (
    select distinct
        user_id,
        visitor_id
    from touches
    where user_id in (select user_id from payments) and user_id <> {{ zero_uuid() }}
),

touches_of_buyers as (
    select
        browsers.user_id as user_id,
        touches.touched_at as touched_at,
        (touches.source, touches.medium, touches.campaign) as touch
    from touches
    inner join browsers_of_buyers as browsers on touches.visitor_id = browsers.visitor_id
    where touches.source <> '(direct)'
),

attributed as (
    select
        payments.payment_id as payment_id,
        argMax(touches_of_buyers.touch, (touches_of_buyers.touched_at, touches_of_buyers.touch)) as touch
    from payments
    inner join touches_of_buyers on payments.user_id = touches_of_buyers.user_id
    where
        touches_of_buyers.touched_at <= payments.posted_at
        and touches_of_buyers.touched_at >= payments.posted_at - interval {{ touch_days }} day
    group by payments.payment_id
),

facts as (
    select
        visits.metric_date as metric_date,
        visits.organization_id as organization_id,
        visits.organizer_id as organizer_id,
        visits.event_id as event_id,
        touches.source as source,
        touches.medium as medium,
        touches.campaign as campaign,
        -- ISO 4217 for "no currency": visits have none, and must not be repeated once for each
        'XXX' as currency,
        1 as sessions,
        0 as paid_orders,
        toDecimal64(0, 3) as gross_sales
    from visits
    inner join touches on visits.session_id = touches.session_id

    union all

    select
        payments.metric_date as metric_date,
        payments.organization_id as organization_id,
        payments.organizer_id as organizer_id,
        payments.event_id as event_id,
        if(attributed.touch.1 = '', '(direct)', attributed.touch.1) as source,
        if(attributed.touch.1 = '', '(none)', attributed.touch.2) as medium,
        if(attributed.touch.1 = '', '(none)', attributed.touch.3) as campaign,
        toString(payments.currency) as currency,
        0 as sessions,
        1 as paid_orders,
        payments.amount as gross_sales
    from payments
    left join attributed on payments.payment_id = attributed.payment_id
)

select
    metric_date,
    organization_id,
    organizer_id,
    event_id,
    source,
    medium,
    campaign,
    toLowCardinality(currency) as currency,
    sum(sessions) as sessions,
    sum(paid_orders) as paid_orders,
    sum(gross_sales) as gross_sales
from facts
group by metric_date, organization_id, organizer_id, event_id, source, medium, campaign, currency
