{{ config(materialized='day_swap', tags=['daily']) }}
-- depends_on: {{ source('analytics', 'control_totals') }}
-- depends_on: {{ source('analytics', 'control_days') }}
-- depends_on: {{ source('analytics', 'events') }}
select * from {{ ref('fct_traffic_sources_daily__build') }}
