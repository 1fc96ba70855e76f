{{ config(
    materialized='table',
    tags=['daily'],
    engine='MergeTree()',
    order_by=['organization_id', 'organizer_id', 'event_id'],
    partition_by='metric_date',
    persist_docs={'relation': false, 'columns': false},
    pre_hook="{{ forget_verdicts() }}",
) }}
with clicks as (
    select
        local_date,
        event_id,
        visitor_id,
        session_id,
        user_id,
        click_id,
        event_type,
        timestamp
    from {{ ref('int_clicks_cleaned__build') }}
    where
        {{ in_run_days('local_date', ahead=funnel_days()) }}
        and {{ around_run_days('created_date', ahead=funnel_days()) }}
        and event_id <> {{ zero_uuid() }}
),

payments as (
    select
        metric_date,
        event_id,
        user_id,
        posted_at
    from {{ ref('int_postings__build') }}
    where posting_type = 'payment' and {{ in_run_days('metric_date', ahead=funnel_days()) }}
),

-- which browsers a buyer was logged in with at this event, and when: a day asks for the days that its funnels see, so
-- that it does not matter which other days are built along
browsers_of_buyers as (
    select
        event_id,
        user_id,
        visitor_id,
        groupUniqArray(local_date) as login_days
    from clicks
    where user_id <> {{ zero_uuid() }}
    group by event_id, user_id, visitor_id
),

steps as (
    -- a checkout ends funnels of the days before as well
    select
        arrayJoin(if(
            event_type = 'page_view',
            [local_date],
            arrayMap(days_back -> local_date - days_back, range({{ (funnel_days() | int) + 1 }}))
        )) as metric_date,
        event_id,
        visitor_id,
        toUInt64(toUnixTimestamp64Micro(toDateTime64(timestamp, 6, 'UTC'))) as at_microseconds,
        if(event_type = 'page_view', 1, 2) as step
    from clicks
    where event_type in ('page_view', 'checkout_started')

    union all

    select
        arrayJoin(arrayFilter(
            day -> arrayExists(login_day -> login_day between day and day + {{ funnel_days() }}, browsers.login_days),
            arrayMap(days_back -> payments.metric_date - days_back, range({{ (funnel_days() | int) + 1 }}))
        )) as metric_date,
        payments.event_id as event_id,
        browsers.visitor_id as visitor_id,
        toUInt64(toUnixTimestamp64Micro(payments.posted_at)) as at_microseconds,
        3 as step
    from payments
    inner join browsers_of_buyers as browsers
        on payments.event_id = browsers.event_id and payments.user_id = browsers.user_id
),

funnels as (
    select
        metric_date,
        event_id,
        visitor_id,
        windowFunnel(86400000000)(at_microseconds, step = 1, step = 2, step = 3) as reached
    from steps
    where {{ in_run_days('metric_date') }}
    group by metric_date, event_id, visitor_id
),

parts as (
    select
        local_date as metric_date,
        event_id,
        uniqExactIf(click_id, event_type = 'page_view') as page_views,
        groupUniqArray(visitor_id) as visitors,
        groupUniqArray(session_id) as sessions,
        [] as buyers,
        [] as funnel_viewed,
        [] as funnel_checkout,
        [] as funnel_purchased
    from clicks
    where {{ in_run_days('local_date') }}
    group by local_date, event_id

    union all

    select
        metric_date,
        event_id,
        0 as page_views,
        [] as visitors,
        [] as sessions,
        groupUniqArray(user_id) as buyers,
        [] as funnel_viewed,
        [] as funnel_checkout,
        [] as funnel_purchased
    from payments
    where {{ in_run_days('metric_date') }}
    group by metric_date, event_id

    union all

    select
        metric_date,
        event_id,
        0 as page_views,
        [] as visitors,
        [] as sessions,
        [] as buyers,
        groupUniqArrayIf(visitor_id, reached >= 1) as funnel_viewed,
        groupUniqArrayIf(visitor_id, reached >= 2) as funnel_checkout,
        groupUniqArrayIf(visitor_id, reached >= 3) as funnel_purchased
    from funnels
    where reached >= 1
    group by metric_date, event_id
)

select
    parts.metric_date as metric_date,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    parts.event_id as event_id,
    sum(parts.page_views) as page_views,
    {% for name in ['visitors', 'sessions', 'buyers', 'funnel_viewed', 'funnel_checkout', 'funnel_purchased'] -%}
    {{ uniq_state('groupUniqArrayArray(parts.' ~ name ~ ')') }} as {{ name }}{{ ',' if not loop.last }}
    {% endfor %}
from parts
left join {{ ref('int_event_owners') }} as owners on parts.event_id = owners.event_id
group by parts.metric_date, owners.organization_id, owners.organizer_id, parts.event_id
