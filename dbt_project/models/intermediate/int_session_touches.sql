-- By UTC day, so that bounds on created_date prune. What goes on after midnight begins with a click from
-- within the site, which is a direct touch and displaces nothing.
select
    created_date,
    session_id,
    any(visitor_id) as visitor_id,
    max(user_id) as user_id,
    min(timestamp) as touched_at,
    argMin(source, (timestamp, click_id)) as source,
    argMin(medium, (timestamp, click_id)) as medium,
    argMin(campaign, (timestamp, click_id)) as campaign
from {{ ref('int_clicks_cleaned') }}
group by created_date, session_id
