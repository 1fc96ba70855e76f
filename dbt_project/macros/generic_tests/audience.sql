{#-
    Gate: page views, visitors and sessions equal an independent count over the clickstream as it lies there:
    without FINAL, without windows, distinct ids exactly.

    Clicks arrive while days build, so the count has two bounds. Lower: what had arrived 10 minutes before the
    run (an insert stamps its rows before they can be seen), less everybody who looks like a bot by now. Upper:
    all that is there now, less those who looked like a bot by then. In quiet times both are one number.
    States are exact up to some 4,000 ids, and within 2 % (six standard errors) above.

    key: event_id or organization_id.
-#}
{% test matches_clicks(model, key, metrics) %}
with raw as (
    select
        local_date,
        created_date,
        event_id,
        visitor_id,
        session_id,
        event_type,
        timestamp,
        click_id,
        ingested_at < toDateTime64('{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S") }}', 3, 'UTC') - interval 10 minute as settled
    from {{ source('analytics', 'events') }}
    where {{ in_run_days('local_date') }} and {{ around_run_days('created_date') }} and not {{ is_program('user_agent') }}
),

peaks as (
    select local_date, created_date, visitor_id, max(minutes.clicks) as peak, max(minutes.settled_clicks) as settled_peak
    from (
        select
            local_date,
            created_date,
            visitor_id,
            uniqExact(event_type, timestamp, click_id) as clicks,
            uniqExactIf((event_type, timestamp, click_id), settled) as settled_clicks
        from raw
        group by local_date, created_date, visitor_id, toStartOfMinute(timestamp)
    ) as minutes
    group by local_date, created_date, visitor_id
),

counted as (
    select
        raw.local_date as metric_date,
        {{ 'raw' if key == 'event_id' else 'owners' }}.{{ key }} as {{ key }},
        {% set limit = bot_clicks_per_minute() -%}
        {% for metric, id in [('page_views', 'click_id'), ('visitors', 'visitor_id'), ('sessions', 'session_id')] -%}
        {% set only = "raw.event_type = 'page_view'" if metric == 'page_views' else '1' -%}
        uniqExactIf(raw.{{ id }}, {{ only }} and raw.settled and peaks.peak <= {{ limit }}) as lower_{{ metric }},
        uniqExactIf(raw.{{ id }}, {{ only }} and peaks.settled_peak <= {{ limit }}) as upper_{{ metric }}{{ ',' if not loop.last }}
        {% endfor %}
    from raw
    inner join peaks
        on raw.local_date = peaks.local_date and raw.created_date = peaks.created_date and raw.visitor_id = peaks.visitor_id
    left join {{ ref('int_event_owners') }} as owners on raw.event_id = owners.event_id
    where raw.event_id <> {{ zero_uuid() }}
    group by metric_date, {{ key }}
),

cells as (
    select metric_date, {{ key }}, cell.1 as metric, toInt64(cell.2) as lower, toInt64(cell.3) as upper, toInt64(0) as found
    from counted
    array join [
        {%- for metric in metrics %} ('{{ metric }}', lower_{{ metric }}, upper_{{ metric }}){{ ',' if not loop.last }}{% endfor -%}
    ] as cell
    union all
    select metric_date, {{ key }}, cell.1 as metric, toInt64(0) as lower, toInt64(0) as upper, toInt64(cell.2) as found
    from {{ model }}
    array join [
        {%- for metric, expression in metrics.items() %} ('{{ metric }}', {{ expression }}){{ ',' if not loop.last }}{% endfor -%}
    ] as cell
)

select metric_date, {{ key }}, metric, sum(cells.lower) as at_least, sum(cells.upper) as at_most, sum(cells.found) as found
from cells
group by metric_date, {{ key }}, metric
having found < at_least * if(at_least > 4000 and metric <> 'page_views', 0.98, 1)
    or found > at_most * if(at_most > 4000 and metric <> 'page_views', 1.02, 1)
{% endtest %}

{#- Gate: buyers equal the distinct payers of the day, counted in the raw copy. -#}
{% test buyers_match_payments(model, key) %}
with counted as (
    select payments.captured_date as metric_date, {{ 'payments' if key == 'event_id' else 'owners' }}.{{ key }} as {{ key }},
        uniqExact(payments.user_id) as buyers
    from {{ source('bilten_raw', 'payments_payments') }} as payments final
    left join {{ ref('int_event_owners') }} as owners on payments.event_id = owners.event_id
    where payments.deleted_at is null and payments.captured_date in {{ day_array() }}
    group by metric_date, {{ key }}
),

cells as (
    select assumeNotNull(metric_date) as metric_date, {{ key }}, toInt64(buyers) as expected, toInt64(0) as found from counted
    union all
    select metric_date, {{ key }}, toInt64(0) as expected, toInt64(finalizeAggregation(buyers)) as found from {{ model }}
)

select metric_date, {{ key }}, 'buyers' as metric, sum(cells.expected) as expected, sum(cells.found) as found
from cells
group by metric_date, {{ key }}
having abs(toInt64(expected) - toInt64(found)) > if(expected > 4000, 0.02 * expected, 0)
{% endtest %}

{#- Gate: sessions summed over all rows, those with money too, equal the distinct sessions of the clickstream. -#}
{% test sessions_match_clicks(model) %}
{%- set by_event = "(select metric_date, event_id, sum(sessions) as sessions from " ~ model ~ " group by metric_date, event_id)" -%}
{{ test_matches_clicks(by_event, 'event_id', {'sessions': 'sessions'}) }}
{% endtest %}
