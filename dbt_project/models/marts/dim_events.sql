{{ config(materialized='table', tags=['whole'], order_by='event_id') }}
with seats as (
    select
        event_id,
        sum(quantity) as seats_offered
    from {{ ref('stg_bilten__ticket_types') }}
    where not is_soft_deleted
    group by event_id
)

select
    events.id as event_id,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    events.venue_id as venue_id,
    events.title as title,
    events.category as category,
    events.tags as tags,
    events.status as status,
    events.visibility as visibility,
    events.timezone as timezone,
    events.start_date as start_at,
    events.end_date as end_at,
    events.start_local_date as start_local_date,
    events.capacity as capacity,
    seats.seats_offered as seats_offered,
    events.created_at as created_at,
    events.is_soft_deleted as is_soft_deleted
from {{ ref('stg_bilten__events') }} as events
left join {{ ref('int_event_owners') }} as owners on events.id = owners.event_id
left join seats on events.id = seats.event_id
