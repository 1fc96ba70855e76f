-- created_date is materialized in the source: `select *` would leave it out, and it is what prunes.
select
    click_id,
    event_id,
    session_id,
    user_id,
    visitor_id,
    organizer_id,
    event_type,
    event_name,
    timestamp,
    local_date,
    created_date,
    properties,
    user_agent,
    referrer,
    page_url,
    ingested_at
from {{ source('analytics', 'events') }} final
