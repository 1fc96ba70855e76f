-- The anti join is on both dates, so that bounds on local_date and created_date reach the primary key of the
-- clickstream on either side: one day reads the granules of three UTC days. (Windows would sort whole rows.)
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
        if(domainWithoutWWW(referrer) = domainWithoutWWW(page_url), '', domainWithoutWWW(referrer)) as referrer_domain
    from {{ ref('stg_clickstream__events') }}
    where not {{ is_program('user_agent') }}
),

minutes as (
    select
        local_date,
        created_date,
        visitor_id,
        count() as clicks
    from {{ ref('stg_clickstream__events') }}
    where not {{ is_program('user_agent') }}
    group by local_date, created_date, visitor_id, toStartOfMinute(timestamp)
),

too_fast as (
    select
        local_date,
        created_date,
        visitor_id
    from minutes
    group by local_date, created_date, visitor_id
    having max(clicks) > {{ bot_clicks_per_minute() }}
)

select
    browsers.click_id as click_id,
    browsers.local_date as local_date,
    browsers.created_date as created_date,
    browsers.timestamp as timestamp,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    browsers.event_id as event_id,
    browsers.session_id as session_id,
    browsers.visitor_id as visitor_id,
    browsers.user_id as user_id,
    browsers.event_type as event_type,
    multiIf(
        browsers.utm_source <> '', browsers.utm_source,
        browsers.referrer_domain <> '', browsers.referrer_domain,
        '(direct)'
    ) as source,
    multiIf(
        browsers.utm_medium <> '', browsers.utm_medium,
        browsers.utm_source <> '' or browsers.referrer_domain = '', '(none)',
        match(browsers.referrer_domain, '(^|[.])(google|bing|duckduckgo|yahoo|ecosia|baidu|yandex)[.]'), 'organic',
        'referral'
    ) as medium,
    if(browsers.utm_campaign <> '', browsers.utm_campaign, '(none)') as campaign
from browsers
left anti join too_fast
    on
        browsers.local_date = too_fast.local_date
        and browsers.created_date = too_fast.created_date
        and browsers.visitor_id = too_fast.visitor_id
left join {{ ref('int_event_owners') }} as owners on browsers.event_id = owners.event_id
