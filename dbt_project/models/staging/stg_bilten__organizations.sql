select
    id,
    name,
    description,
    website,
    logo_url,
    timezone,
    default_currency,
    created_at,
    updated_at,
    deleted_at,
    deleted_at is not null as is_soft_deleted
from {{ source('bilten_raw', 'users_organizations') }} final
