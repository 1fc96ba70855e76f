select
    id,
    organization_id,
    amount,
    currency,
    status,
    period_start,
    period_end,
    paid_at,
    created_at,
    updated_at
from {{ source('bilten_raw', 'financial_payouts') }} final
