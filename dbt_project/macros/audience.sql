{#-
    What is no visitor. Two rules, both documented in docs/metrics.md:
    1. the browser names itself as a program (case-insensitive);
    2. more than var('bot_clicks_per_minute') clicks of one visitor within one minute: all clicks of that
       visitor on that local and UTC day are left out. The rule looks at one local day alone, so that a late
       click can change its own day and no other; and at one UTC day of it, for these prune what is read.
-#}
{% macro is_program(user_agent) -%}
    multiSearchAnyCaseInsensitive({{ user_agent }}, [
        'bot', 'crawl', 'spider', 'slurp', 'headless', 'phantomjs', 'python-', 'curl/', 'wget/', 'java/', 'go-http',
        'okhttp', 'scrapy', 'preview', 'monitor', 'lighthouse'
    ])
{%- endmacro %}

{% macro bot_clicks_per_minute() -%}
    {{ var('bot_clicks_per_minute', 60) | int }}
{%- endmacro %}

{#-
    Distinct ids that can be added up over days and events: 0.3 % standard error above some 4,000 ids, exact
    below; 8 bytes per id, 98 kB at most. Built from sorted ids, for below that size the bytes of a state show the
    order in which ids came, and day_swap compares bytes. (uniq and uniqExact do so at any size.)
-#}
{% macro uniq_state(ids) -%}
    arrayReduce('uniqCombined64State(17)', arraySort({{ ids }}))
{%- endmacro %}

{#- The states of several rows as one, merged in the order of a key for the same reason. -#}
{% macro merged_state(state, key) -%}
    arrayReduce(
        'uniqCombined64MergeState(17)',
        arrayMap(part -> part.2, arraySort(part -> part.1, groupArray(({{ key }}, {{ state }}))))
    )
{%- endmacro %}

{#- Where each session of a UTC day came from; of int_clicks_cleaned, or of the clicks of a run. -#}
{% macro session_touches(clicks) -%}
    select
        created_date,
        session_id,
        visitor_id,
        user_id,
        first_click.1 as touched_at,
        first_click.3 as source,
        first_click.4 as medium,
        first_click.5 as campaign
    from (
        select
            created_date,
            session_id,
            min(visitor_id) as visitor_id,
            max(user_id) as user_id,
            min((timestamp, click_id, source, medium, campaign)) as first_click
        from {{ clicks }}
        group by created_date, session_id
    )
{%- endmacro %}

{#- How far a mart looks beyond its day, in days; meta.dirty_expands of the mart follows from it. -#}
{% macro touch_days() -%}{{ return(30) }}{%- endmacro %}

{#- A view late on a day before a 23-hour day reaches into the day after that one: 24 h end two days ahead. -#}
{% macro funnel_days() -%}{{ return(2) }}{%- endmacro %}
