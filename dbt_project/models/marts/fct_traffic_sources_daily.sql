{{ config(materialized='day_swap', tags=['daily']) }}
-- What the gates read: dbt lets a test run before a model only if the model depends on all that the test does.
-- depends_on: {{ source('analytics', 'control_totals') }}
-- depends_on: {{ source('analytics', 'control_days') }}
-- depends_on: {{ source('analytics', 'events') }}
select * from {{ ref('fct_traffic_sources_daily__build') }}
