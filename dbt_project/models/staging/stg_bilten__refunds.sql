select
    id,
    payment_id,
    ticket_id,
    amount,
    fee_amount,
    tax_amount,
    status,
    reason,
    refunded_at,
    refunded_date,
    reversed_at,
    reversed_date,
    created_at,
    updated_at
from {{ source('bilten_raw', 'payments_refunds') }} final
