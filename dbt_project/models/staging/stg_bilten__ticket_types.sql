select
    id,
    event_id,
    name,
    description,
    price,
    currency,
    quantity,
    sold,
    reserved,
    sales_start,
    sales_end,
    is_active,
    `settings`,
    created_at,
    updated_at,
    deleted_at,
    deleted_at is not null as is_soft_deleted
from {{ source('bilten_raw', 'tickets_ticket_types') }} final
