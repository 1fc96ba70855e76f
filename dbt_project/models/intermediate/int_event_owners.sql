-- Whose event it is now. Zero UUID where there is no organization: such events live in UTC days.
select
    id as event_id,
    organizer_id,
    coalesce(organization_id, {{ zero_uuid() }}) as organization_id
from {{ ref('stg_bilten__events') }}
