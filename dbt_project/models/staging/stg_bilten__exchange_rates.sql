select
    rate_date,
    from_currency,
    to_currency,
    rate,
    created_at,
    updated_at
from {{ source('bilten_raw', 'financial_exchange_rates') }} final
