select
    id,
    payment_id,
    amount,
    dispute_fee,
    status,
    reason,
    charged_back_at,
    charged_back_date,
    reversed_at,
    reversed_date,
    created_at,
    updated_at
from {{ source('bilten_raw', 'payments_chargebacks') }} final
