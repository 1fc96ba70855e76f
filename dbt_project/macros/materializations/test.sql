{#-
    dbt's own `test` materialization, and verdicts for gates.

    A gate (config.meta.gate: true) is evaluated once, into analytics.mart_verdicts: one row for each day of
    the run with the number of failing rows, 0 included, and at most 20 of them as JSON. A failing row whose
    metric_date is not a day of the run counts against every day: nobody can tell which one it spoils.
    dbt's own result is then read from those verdicts. All other tests run exactly as dbt runs them; those
    with meta.show_rows print up to 10 failing rows, for a message that names what is wrong.
-#}
{% materialization test, adapter='clickhouse' %}
    {%- if config.get('meta', {}).get('gate') -%}
        {%- if should_store_failures() or config.get('limit') is not none or config.get('where') -%}
            {{ exceptions.raise_compiler_error(
                "gate " ~ model.name ~ ": store_failures, limit and where would hide rows from the verdict; expected none of them") }}
        {%- endif -%}
        {%- set mart = mart_of_gate(model) -%}
        {%- call statement('record_verdicts') -%}
            {{ record_verdicts_sql(sql, mart, model.name) }}
        {%- endcall -%}
        {%- set main_sql = verdict_rows_sql(mart, model.name) -%}
        {%- call statement('main', fetch_result=True) -%}
            {{ get_test_sql(main_sql, 'coalesce(sum(failing_rows), 0)', config.get('warn_if'), config.get('error_if'), limit=none) }}
        {%- endcall -%}
        {{ return({'relations': []}) }}
    {%- endif -%}

    {%- set relations = [] -%}
    {%- set limit = config.get('limit') -%}
    {%- set sql_with_limit = get_limit_subquery_sql(sql, limit) -%}
    {%- set main_sql = sql_with_limit -%}

    {%- if should_store_failures() -%}
        {%- set kind = config.get('store_failures_as') or 'table' -%}
        {%- if kind not in ['table', 'view'] -%}
            {{ exceptions.raise_compiler_error("store_failures_as: expected ephemeral, table or view, found '" ~ kind ~ "'") }}
        {%- endif -%}
        {%- set old_relation = adapter.get_relation(database=database, schema=schema, identifier=model['alias']) -%}
        {%- set failures = api.Relation.create(identifier=model['alias'], schema=schema, database=database, type=kind) -%}
        {%- if old_relation -%}{%- do adapter.drop_relation(old_relation) -%}{%- endif -%}
        {%- call statement(auto_begin=True) -%}
            {{ get_create_sql(failures, sql_with_limit) }}
        {%- endcall -%}
        {%- do relations.append(failures) -%}
        {%- set main_sql -%} select * from {{ failures }} {%- endset -%}
        {{ adapter.commit() }}
    {%- endif -%}

    {%- call statement('main', fetch_result=True) -%}
        {{ get_test_sql(main_sql, config.get('fail_calc'), config.get('warn_if'), config.get('error_if'), limit=none) }}
    {%- endcall -%}

    {%- if config.get('meta', {}).get('show_rows') and load_result('main').table.rows[0][0] | int > 0 -%}
        {%- for row in run_query("select * from (" ~ main_sql ~ ") limit 10").rows -%}
            {%- do log(model.name ~ ": " ~ (row.values() | join(' | ')), info=True) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return({'relations': relations}) }}
{% endmaterialization %}

{% macro record_verdicts_sql(test_sql, mart, gate) -%}
    insert into analytics.mart_verdicts (run_id, mart, metric_date, gate, failures, sample)
    with
        {{ day_array() }} as run_days,
        failing as (
            select
                arrayJoin(if(
                    has(run_days, assumeNotNull(toDate32(metric_date))) and metric_date is not null,
                    [assumeNotNull(toDate32(metric_date))],
                    run_days
                )) as day,
                substring(trimRight(formatRow('JSONEachRow', *), '\n'), 1, 1000) as row
            from (
                {{ test_sql }}
            )
        ),
        judged as (
            select day, count() as failures, groupArray(20)(row) as rows
            from failing
            group by day
        )
    select
        {{ quoted(build_id()) }},
        {{ quoted(mart) }},
        all_days.day,
        {{ quoted(gate) }},
        judged.failures,
        concat('[', arrayStringConcat(arraySort(judged.rows), ','), ']')
    from (select arrayJoin(run_days) as day) as all_days
    left join judged on all_days.day = judged.day
{%- endmacro %}

{% macro verdict_rows_sql(mart, gate) -%}
    select metric_date, argMax(failures, judged_at) as failing_rows
    from analytics.mart_verdicts
    where run_id = {{ quoted(build_id()) }} and mart = {{ quoted(mart) }} and gate = {{ quoted(gate) }}
        and metric_date in {{ day_array() }}
    group by metric_date
{%- endmacro %}
