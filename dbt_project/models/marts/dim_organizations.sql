{{ config(materialized='table', tags=['whole'], order_by='organization_id') }}
select
    id as organization_id,
    name,
    website,
    timezone,
    default_currency,
    created_at,
    is_soft_deleted
from {{ ref('stg_bilten__organizations') }}

union all

-- so that every fact finds its organization
select
    {{ zero_uuid() }} as organization_id,
    '(none)' as name,
    null as website,
    'UTC' as timezone,
    'USD' as default_currency,
    toDateTime64('1970-01-01 00:00:00', 6, 'UTC') as created_at,
    false as is_soft_deleted
