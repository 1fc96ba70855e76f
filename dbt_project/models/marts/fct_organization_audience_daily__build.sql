{{ config(
    materialized='table',
    tags=['daily'],
    engine='MergeTree()',
    order_by=['organization_id'],
    partition_by='metric_date',
    persist_docs={'relation': false, 'columns': false},
    pre_hook="{{ forget_verdicts() }}",
) }}
select
    metric_date,
    organization_id,
    sum(page_views) as page_views,
    {% for name in ['visitors', 'sessions', 'buyers', 'funnel_viewed', 'funnel_checkout', 'funnel_purchased'] -%}
    {{ merged_state(name, 'event_id') }} as {{ name }}{{ ',' if not loop.last }}
    {% endfor %}
from {{ ref('fct_event_audience_daily__build') }}
group by metric_date, organization_id
