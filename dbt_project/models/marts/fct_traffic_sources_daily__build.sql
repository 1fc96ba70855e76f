{{ config(
    materialized='table',
    tags=['daily'],
    engine='MergeTree()',
    order_by=['organization_id', 'organizer_id', 'event_id', 'source', 'medium', 'campaign', 'currency'],
    partition_by='metric_date',
    persist_docs={'relation': false, 'columns': false},
    pre_hook="{{ forget_verdicts() }}",
) }}
-- A day looks at sessions of the three UTC days around it, and a payment at the 30 days before it, whichever other days
-- are built along.
with session_sources as (
    select
        session_id,
        groupArray((created_date, touched_at, source, medium, campaign)) as touches
    from {{ ref('int_session_touches__build') }}
    where {{ around_run_days('created_date') }}
    group by session_id
),

visits as (
    select
        local_date as metric_date,
        organization_id,
        organizer_id,
        event_id,
        session_id
    from {{ ref('int_clicks_cleaned__build') }}
    where
        {{ in_run_days('local_date') }}
        and {{ around_run_days('created_date') }}
        and event_id <> {{ zero_uuid() }}
    group by local_date, organization_id, organizer_id, event_id, session_id
),

sourced_visits as (
    select
        visits.metric_date as metric_date,
        visits.organization_id as organization_id,
        visits.organizer_id as organizer_id,
        visits.event_id as event_id,
        arraySort(
            touch -> touch.2,
            arrayFilter(touch -> touch.1 between visits.metric_date - 1 and visits.metric_date + 1, sources.touches)
        )[1] as first_touch
    from visits
    inner join session_sources as sources on visits.session_id = sources.session_id
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
    from {{ ref('int_postings__build') }}
    where posting_type = 'payment' and {{ in_run_days('metric_date') }}
),

-- a browser belongs to whoever logged in with it; its touches before the login count too
browsers as (
    select
        visitor_id,
        groupArrayIf((user_id, touched_at), user_id <> {{ zero_uuid() }}) as logins,
        groupArrayIf((touched_at, source, medium, campaign), source <> '(direct)') as touches
    from {{ ref('int_session_touches__build') }}
    where {{ around_run_days('created_date', back=touch_days()) }}
    group by visitor_id
    having notEmpty(logins) and notEmpty(touches)
),

touches_of_users as (
    select
        user_id,
        arrayMap(login -> login.2, arrayFilter(login -> login.1 = user_id, logins)) as logged_in_at,
        touch.1 as touched_at,
        (touch.2, touch.3, touch.4) as touch_source
    from (
        select
            arrayJoin(arrayDistinct(arrayMap(login -> login.1, logins))) as user_id,
            logins,
            touches
        from browsers
    ) as logged_in
    array join touches as touch
),

attributed as (
    select
        payments.payment_id as payment_id,
        argMax(touches.touch_source, (touches.touched_at, touches.touch_source)) as touch
    from payments
    inner join touches_of_users as touches on payments.user_id = touches.user_id
    where
        touches.touched_at between payments.posted_at - interval {{ touch_days() }} day and payments.posted_at
        and arrayExists(
            logged_in_at -> logged_in_at between payments.posted_at - interval {{ touch_days() }} day and payments.posted_at,
            touches.logged_in_at
        )
    group by payments.payment_id
),

facts as (
    select
        metric_date,
        organization_id,
        organizer_id,
        event_id,
        first_touch.3 as source,
        first_touch.4 as medium,
        first_touch.5 as campaign,
        -- ISO 4217 for "no currency": visits have none, and must not be repeated once for each
        'XXX' as currency,
        1 as sessions,
        0 as paid_orders,
        toDecimal64(0, 3) as gross_sales
    from sourced_visits

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
