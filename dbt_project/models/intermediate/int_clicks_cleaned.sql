-- The windows are partitioned by both dates, so that bounds on local_date and created_date reach the
-- primary key of the clickstream: one day reads the granules of three UTC days.
with browsers as (
    select
        click_id,
        event_id,
        session_id,
        visitor_id,
        user_id,
        event_type,
        timestamp,
        local_date,
        created_date,
        lower(properties['utm_source']) as utm_source,
        lower(properties['utm_medium']) as utm_medium,
        properties['utm_campaign'] as utm_campaign,
        if(domainWithoutWWW(referrer) = domainWithoutWWW(page_url), '', domainWithoutWWW(referrer)) as referrer_domain,
        count() over (
            partition by local_date, created_date, visitor_id, toStartOfMinute(timestamp)
        ) as clicks_in_minute
    from {{ ref('stg_clickstream__events') }}
    where not {{ is_program('user_agent') }}
),

judged as (
    select
        *,
        max(clicks_in_minute) over (partition by local_date, created_date, visitor_id) as peak_clicks_in_minute
    from browsers
)

select
    judged.click_id as click_id,
    judged.local_date as local_date,
    judged.created_date as created_date,
    judged.timestamp as timestamp,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    judged.event_id as event_id,
    judged.session_id as session_id,
    judged.visitor_id as visitor_id,
    judged.user_id as user_id,
    judged.event_type as event_type,
    multiIf(
        judged.utm_source <> '', judged.utm_source,
        judged.referrer_domain <> '', judged.referrer_domain,
        '(direct)'
    ) as source,
    multiIf(
        judged.utm_medium <> '', judged.utm_medium,
        judged.utm_source <> '' or judged.referrer_domain = '', '(none)',
        match(judged.referrer_domain, '(^|[.])(google|bing|duckduckgo|yahoo|ecosia|baidu|yandex)[.]'), 'organic',
        'referral'
    ) as medium,
    if(judged.utm_campaign <> '', judged.utm_campaign, '(none)') as campaign
from judged
left join {{ ref('int_event_owners') }} as owners on judged.event_id = owners.event_id
where judged.peak_clicks_in_minute <= {{ bot_clicks_per_minute() }}
