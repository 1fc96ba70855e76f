{{ config(materialized='day_swap', tags=['daily']) }}
-- depends_on: {{ source('analytics', 'control_totals') }}
-- depends_on: {{ source('analytics', 'control_days') }}
select * from {{ ref('fct_event_sales_daily__build') }}
