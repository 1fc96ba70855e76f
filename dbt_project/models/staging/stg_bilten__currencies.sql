select
    code,
    name,
    minor_unit,
    symbol,
    created_at,
    updated_at
from {{ source('bilten_raw', 'financial_currencies') }} final
