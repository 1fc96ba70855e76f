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

{#- Gate: an expression over the columns of one row holds. -#}
{% test expression_holds(model, expression) %}
select *
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

{#- Last test of a mart: every day of the run has been decided by this run, and none was refused. -#}
{% test no_day_refused(model, mart) %}
select days.day as metric_date, if(decided.verdict = '', 'not decided by this run', decided.verdict) as verdict
from (select arrayJoin({{ day_array() }}) as day) as days
left join (
    select day, toString(verdict) as verdict
    from {{ source('analytics', 'mart_days') }} final
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
