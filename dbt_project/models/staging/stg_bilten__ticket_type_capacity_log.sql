select
    id,
    ticket_type_id,
    quantity,
    valid_from,
    valid_from_date,
    created_at,
    updated_at
from {{ source('bilten_raw', 'tickets_ticket_type_capacity_log') }} final
