{#-
    The variables of a run, checked in one place. They end in SQL text and in table names, so anything
    that is not exactly of the expected form stops the run before it has touched the server.
-#}

{#- Names the tables and verdicts of a run: [a-z0-9_]{1,40}; `manual` for a `dbt build` by hand. -#}
{% macro build_id() -%}
    {%- set given = var('build_id', 'manual') | string -%}
    {%- if not modules.re.fullmatch('[a-z0-9_]{1,40}', given) -%}
        {{ exceptions.raise_compiler_error("variable build_id: expected 1 to 40 of a-z, 0-9 and _, found '" ~ given ~ "'") }}
    {%- endif -%}
    {{ return(given) }}
{%- endmacro %}

{#- Local days of the run as ISO dates, in order, without repeats; yesterday (UTC) when none are given. -#}
{% macro run_days() -%}
    {%- set given = var('days', none) -%}
    {%- if given is none -%}
        {%- set yesterday = run_started_at - modules.datetime.timedelta(days=1) -%}
        {%- set given = [yesterday.strftime('%Y-%m-%d')] -%}
    {%- elif given is string -%}
        {%- set given = [given] -%}
    {%- endif -%}
    {%- if given | length == 0 -%}
        {{ exceptions.raise_compiler_error("variable days: expected at least one ISO date, found an empty list") }}
    {%- endif -%}
    {%- set days = [] -%}
    {%- for day in given -%}
        {%- set text = day | string -%}
        {%- if not modules.re.fullmatch('[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])', text) -%}
            {{ exceptions.raise_compiler_error("variable days: expected ISO dates such as 2026-01-31, found '" ~ text ~ "'") }}
        {%- endif -%}
        {%- if text not in days -%}{%- do days.append(text) -%}{%- endif -%}
    {%- endfor -%}
    {{ return(days | sort) }}
{%- endmacro %}

{#- `'2026-01-01', '2026-01-02'`, moved by a number of days when asked. -#}
{% macro days_literal(back=0, ahead=0) -%}
    {%- set days = [] -%}
    {%- for day in run_days() -%}
        {%- set date = modules.datetime.date.fromisoformat(day) -%}
        {%- for offset in range(-back, ahead + 1) -%}
            {%- set moved = (date + modules.datetime.timedelta(days=offset)).isoformat() -%}
            {%- if moved not in days -%}{%- do days.append(moved) -%}{%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return("'" ~ (days | sort | join("', '")) ~ "'") }}
{%- endmacro %}

{#- The days of the run as a ClickHouse array of Date32. -#}
{% macro day_array() -%}
    [{%- for day in run_days() -%} toDate32('{{ day }}'){{ ',' if not loop.last }} {%- endfor -%}]
{%- endmacro %}

{#-
    Condition on a local day. A bound as well as the list, since bounds prune and lists select.
    back/ahead: further days that the model must see to judge those of the run.
-#}
{% macro in_run_days(column, back=0, ahead=0) -%}
    {{ column }} in ({{ days_literal(back, ahead) }})
{%- endmacro %}

{#- Bounds of a UTC day around the local days of the run: local time is 14 hours off UTC at most. -#}
{% macro around_run_days(column, back=0, ahead=0) -%}
    {%- set days = run_days() -%}
    {%- set first = modules.datetime.date.fromisoformat(days[0]) - modules.datetime.timedelta(days=back + 1) -%}
    {%- set last = modules.datetime.date.fromisoformat(days[-1]) + modules.datetime.timedelta(days=ahead + 1) -%}
    {{ column }} between '{{ first.isoformat() }}' and '{{ last.isoformat() }}'
{%- endmacro %}

{#- {'batch': 17, 'as_of': '2026-01-31 04:00:12.000000', 'settled_until': the same or before}: given, or of the
    newest batch that was applied whole. -#}
{% macro run_batch() -%}
    {%- set batch = var('batch', none) -%}
    {%- set as_of = var('as_of', none) -%}
    {%- set settled_until = var('settled_until', none) -%}
    {%- if batch is none or as_of is none or settled_until is none -%}
        {%- set newest = run_query("select toString(max(batch)), toString(argMax(as_of, batch)), toString(argMax(settled_until, batch)), count() from analytics.sync_batches") -%}
        {%- if newest.rows[0][3] | int == 0 -%}
            {{ exceptions.raise_compiler_error(
                "no batch has been applied: expected a row in analytics.sync_batches, found none; run `bilten sync` first") }}
        {%- endif -%}
        {%- set batch = newest.rows[0][0] if batch is none else batch -%}
        {%- set as_of = newest.rows[0][1] if as_of is none else as_of -%}
        {%- set settled_until = newest.rows[0][2] if settled_until is none else settled_until -%}
    {%- endif -%}
    {%- if not modules.re.fullmatch('[0-9]{1,20}', batch | string) -%}
        {{ exceptions.raise_compiler_error("variable batch: expected a number, found '" ~ batch ~ "'") }}
    {%- endif -%}
    {%- for name, moment in [('as_of', as_of), ('settled_until', settled_until)] -%}
        {%- if not modules.re.fullmatch('[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?', moment | string) -%}
            {{ exceptions.raise_compiler_error(
                "variable " ~ name ~ ": expected 'YYYY-MM-DD hh:mm:ss.ffffff' in UTC, found '" ~ moment ~ "'") }}
        {%- endif -%}
    {%- endfor -%}
    {{ return({'batch': batch | string, 'as_of': as_of | string, 'settled_until': settled_until | string}) }}
{%- endmacro %}

{#- A ClickHouse string literal of any text. -#}
{% macro quoted(text) -%}
    {{ return("'" ~ (text | string | replace("\\", "\\\\") | replace("'", "\\'")) ~ "'") }}
{%- endmacro %}

{#- The UUID that stands for none. -#}
{% macro zero_uuid() -%}
    toUUID('00000000-0000-0000-0000-000000000000')
{%- endmacro %}
