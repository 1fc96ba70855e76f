select
    id,
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
    updated_at,
    deleted_at,
    deleted_at is not null as is_soft_deleted
from {{ source('bilten_raw', 'events_venues') }} final
