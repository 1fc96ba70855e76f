select
    id,
    payment_id,
    ticket_id,
    item_type,
    amount,
    description,
    created_at,
    updated_at
from {{ source('bilten_raw', 'payments_payment_items') }} final
