{{ config(materialized='table', tags=['whole'], order_by='ticket_type_id') }}
select
    id as ticket_type_id,
    event_id,
    name,
    price,
    currency,
    quantity,
    is_active,
    sales_start,
    sales_end,
    created_at,
    is_soft_deleted
from {{ ref('stg_bilten__ticket_types') }}
