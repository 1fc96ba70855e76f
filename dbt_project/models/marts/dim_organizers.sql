{{ config(materialized='table', tags=['whole'], order_by='organizer_id') }}
select
    users.id as organizer_id,
    coalesce(users.organization_id, {{ zero_uuid() }}) as organization_id,
    users.role as role,
    users.status as status,
    users.email_verified as email_verified,
    users.created_at as created_at,
    users.is_soft_deleted as is_soft_deleted
from {{ ref('stg_bilten__users') }} as users
where users.role = 'organizer' or users.id in (select organizer_id from {{ ref('int_event_owners') }})
