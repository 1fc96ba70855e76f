{{ config(materialized='table', tags=['whole'], order_by='venue_id') }}
select
    id as venue_id,
    name,
    address,
    city,
    country,
    postal_code,
    latitude,
    longitude,
    capacity,
    amenities,
    created_at,
    is_soft_deleted
from {{ ref('stg_bilten__venues') }}
