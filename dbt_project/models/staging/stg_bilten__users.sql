select
    id,
    role,
    status,
    email_verified,
    organization_id,
    created_at,
    updated_at,
    deleted_at,
    deleted_at is not null as is_soft_deleted
from {{ source('bilten_raw', 'users_users') }} final
