{#-
    What is no visitor. Two rules, both documented in docs/metrics.md:
    1. the browser names itself as a program (case-insensitive);
    2. more than var('bot_clicks_per_minute') clicks of one visitor within one minute: all clicks of that
       visitor on that local day are left out. The rule looks at one local day alone, so that a late
       click can change its own day and no other.
-#}
{% macro is_program(user_agent) -%}
    match(lower({{ user_agent }}), 'bot|crawl|spider|slurp|headless|phantomjs|python-|curl/|wget/|java/|go-http|okhttp|scrapy|preview|monitor|lighthouse')
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
