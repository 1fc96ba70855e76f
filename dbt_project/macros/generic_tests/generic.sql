{#- One row per combination of columns. -#}
{% test unique_combination(model, columns) %}
select {{ columns | join(', ') }}, count() as rows
from {{ model }}
group by {{ columns | join(', ') }}
having rows > 1
{% endtest %}

{#- Gate: no negative value in columns that count or add up magnitudes. -#}
{% test not_negative(model, columns) %}
select metric_date, event_id, {{ columns | join(', ') }}
from {{ model }}
where {% for column in columns %}{{ column }} < 0{{ ' or ' if not loop.last }}{% endfor %}
{% endtest %}

{#- Gate: an expression over the columns of one row holds; columns are shown where it does not. -#}
{% test expression_holds(model, expression, columns) %}
select metric_date, {{ columns | join(', ') }}
from {{ model }}
where not ({{ expression }})
{% endtest %}

{#- An expression over the columns of one row holds, in a model of whatever grain; columns are shown where not. -#}
{% test row_holds(model, expression, columns) %}
select {{ columns | join(', ') }}
from {{ model }}
where not ({{ expression }})
{% endtest %}

{#- Gate: the row belongs to an event, an organizer and, where it names one, an organization that exist. -#}
{% test known_owner(model) %}
select facts.metric_date as metric_date, facts.event_id as event_id, facts.organizer_id as organizer_id,
    facts.organization_id as organization_id
from {{ model }} as facts
left join {{ ref('stg_bilten__events') }} as events on facts.event_id = events.id
left join {{ ref('stg_bilten__organizations') }} as organizations on facts.organization_id = organizations.id
where events.id = {{ zero_uuid() }}
    or facts.organizer_id = {{ zero_uuid() }}
    or (facts.organization_id <> {{ zero_uuid() }} and organizations.id = {{ zero_uuid() }})
{% endtest %}

{#- Gate: the ticket type exists and belongs to the event of the row. -#}
{% test known_ticket_type(model) %}
select facts.metric_date as metric_date, facts.event_id as event_id, facts.ticket_type_id as ticket_type_id,
    types.event_id as event_of_type
from {{ model }} as facts
left join {{ ref('stg_bilten__ticket_types') }} as types on facts.ticket_type_id = types.id
where types.id = {{ zero_uuid() }} or types.event_id <> facts.event_id
{% endtest %}

{#-
    Gate of the ticket types: the face value of tickets and all that belongs to no ticket make up gross sales, and
    each count adds up to that of the event, as built in the same run.
-#}
{% test adds_up_to_event_sales(model, event_sales, counts) %}
with cells as (
    select metric_date, event_id, toString(currency) as currency, cell.1 as metric, toDecimal128(0, 3) as expected, cell.2 as found
    from {{ model }}
    array join [
        ('gross_sales', toDecimal128(ticket_face_sales, 3))
        {%- for metric in counts %}, ('{{ metric }}', toDecimal128({{ metric }}, 3)){% endfor %}
    ] as cell
    union all
    select metric_date, event_id, toString(currency) as currency, 'gross_sales' as metric, toDecimal128(0, 3) as expected,
        toDecimal128(amount, 3) as found
    from {{ ref('int_payment_items__build') }}
    where {{ in_run_days('metric_date') }} and item_type <> 'ticket'
    union all
    select metric_date, event_id, toString(currency) as currency, cell.1 as metric, cell.2 as expected, toDecimal128(0, 3) as found
    from {{ event_sales }}
    array join [
        ('gross_sales', toDecimal128(gross_sales, 3))
        {%- for metric in counts %}, ('{{ metric }}', toDecimal128({{ metric }}, 3)){% endfor %}
    ] as cell
)

select metric_date, event_id, currency, metric, sum(cells.expected) as expected, sum(cells.found) as found
from cells
group by metric_date, event_id, currency, metric
having sum(cells.expected) <> sum(cells.found)
{% endtest %}

{#- Last test of a mart: every day of the run has been decided by this run, and none was refused. -#}
{% test no_day_refused(model, mart) %}
select days.day as metric_date, if(decided.verdict = '', 'not decided by this run', decided.verdict) as verdict
from (select arrayJoin({{ day_array() }}) as day) as days
left join (
    select day, toString(verdict) as verdict
    -- by name: with the source for a parent, leaving out the source's tests would leave out this one
    from analytics.mart_days final
    where mart = {{ quoted(mart) }} and run_id = {{ quoted(build_id()) }}
) as decided on days.day = decided.day
where decided.verdict not in ('swapped', 'unchanged')
{% endtest %}

{#- Gate: one row per day and combination of columns. -#}
{% test unique_gate(model, columns) %}
select metric_date, {{ columns | join(', ') }}, count() as rows
from {{ model }}
group by metric_date, {{ columns | join(', ') }}
having rows > 1
{% endtest %}

{#-
    What a row of any grain names exists: event, organizer and organization; the zero UUID names none. Asked of the
    dimensions: a test that reads staging runs wherever views of staging are made, also before there is a mart.
-#}
{% test known_names(model) %}
select distinct event_id, organizer_id, organization_id
from {{ model }}
where (event_id <> {{ zero_uuid() }} and event_id not in (select event_id from {{ ref('dim_events') }}))
    or (organizer_id <> {{ zero_uuid() }} and organizer_id not in (select organizer_id from {{ ref('dim_organizers') }}))
    or (
        organization_id <> {{ zero_uuid() }}
        and organization_id not in (select organization_id from {{ ref('dim_organizations') }})
    )
{% endtest %}

{#- A ticket that is gone by its status has the moment that metrics count: its own, or of a refund that names it. -#}
{% test gone_with_a_moment(model) %}
select id, status, event_id, payment_id
from {{ model }}
where status in ('cancelled', 'refunded')
    and cancelled_at is null
    and id not in (
        select assumeNotNull(ticket_id)
        from {{ ref('stg_bilten__refunds') }}
        where ticket_id is not null and refunded_at is not null
    )
{% endtest %}
