{#-
    Gate: every metric equals, to the last digit, what PostgreSQL itself computed for that day, event and
    currency, in the newest batch in which the day was touched. A day without controls, or with fewer cells
    than its batch says it wrote, fails: missing evidence is no agreement.

    metrics: columns of the build; or name -> expression where the control has another name than the column.
-#}
{% test equals_control_totals(model, metrics) %}
with newest as (
    select metric_date, max(batch) as newest_batch, argMax(cells, batch) as newest_cells
    from {{ source('analytics', 'control_days') }}
    where metric_date in {{ day_array() }}
    group by metric_date
),

controls as (
    select totals.metric_date as metric_date, totals.event_id as event_id, toString(totals.currency) as currency,
        toString(totals.metric) as metric, totals.value as value
    from (
        select metric_date, batch, event_id, currency, metric, value
        from {{ source('analytics', 'control_totals') }} final
        where metric_date in {{ day_array() }}
    ) as totals
    inner join newest on totals.metric_date = newest.metric_date and totals.batch = newest.newest_batch
),

cells as (
    select metric_date, event_id, currency, metric, value as expected, toDecimal128(0, 3) as found
    from controls
    where metric in ('{{ metrics | join("', '") }}')
    union all
    select metric_date, event_id, toString(currency) as currency, cell.1 as metric, toDecimal128(0, 3) as expected, cell.2 as found
    from {{ model }}
    array join [
        {%- for metric in metrics %} ('{{ metric }}', toDecimal128({{ metric }}, 3)){{ ',' if not loop.last }}{% endfor -%}
    ] as cell
)

select metric_date, event_id, currency, metric, sum(cells.expected) as expected, sum(cells.found) as found
from cells
group by metric_date, event_id, currency, metric
having sum(cells.expected) <> sum(cells.found)

union all

select
    days.day as metric_date,
    {{ zero_uuid() }} as event_id,
    '' as currency,
    if(newest.newest_batch = 0, 'no control totals for this day', 'number of control totals') as metric,
    toDecimal128(newest.newest_cells, 3) as expected,
    toDecimal128(written.cells, 3) as found
from (select arrayJoin({{ day_array() }}) as day) as days
left join newest on days.day = newest.metric_date
left join (select metric_date, count() as cells from controls group by metric_date) as written on days.day = written.metric_date
where newest.newest_batch = 0 or newest.newest_cells <> written.cells
{% endtest %}
