{{ config(materialized='day_swap', tags=['daily']) }}
-- What the gates read: dbt lets a test run before a model only if the model depends on all that the test does.
-- depends_on: {{ source('analytics', 'events') }}
-- depends_on: {{ source('bilten_raw', 'payments_payments') }}
select * from {{ ref('fct_organization_audience_daily__build') }}
