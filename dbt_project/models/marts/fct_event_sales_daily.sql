{{ config(materialized='day_swap', tags=['daily']) }}
-- What the gates read: dbt lets a test run before a model only if the model depends on all that the test does.
-- depends_on: {{ source('analytics', 'control_totals') }}
-- depends_on: {{ source('analytics', 'control_days') }}
-- depends_on: {{ ref('stg_bilten__organizations') }}
select * from {{ ref('fct_event_sales_daily__build') }}
