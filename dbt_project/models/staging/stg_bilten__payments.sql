select
    id,
    user_id,
    event_id,
    amount,
    fee_amount,
    tax_amount,
    currency,
    payment_method,
    status,
    transaction_id,
    captured_at,
    captured_date,
    created_at,
    updated_at,
    deleted_at,
    deleted_at is not null as is_soft_deleted
from {{ source('bilten_raw', 'payments_payments') }} final
