{{ config(materialized='day_swap', tags=['daily']) }}
-- depends_on: {{ source('analytics', 'events') }}
-- depends_on: {{ source('bilten_raw', 'payments_payments') }}
select * from {{ ref('fct_organization_audience_daily__build') }}
