{#-
    day_swap: publishes the days of a run, each by itself, from fct_x__build_<build_id> into fct_x.

    A day is swapped only if every gate in the graph has judged it with 0 failures; a missing verdict refuses
    it like a failed one. A day whose content is the same is left alone. An emptied day is dropped, since
    REPLACE PARTITION from an empty partition is refused by the server; since the whole partition is replaced,
    vanished keys are gone with it. One ALTER per day: several REPLACEs in one statement are not atomic.
    A reader sees the day before or the day after, never a mixture: its query holds the parts it began with.

    What a kill leaves behind, by statement; a repeat with the same build_id brings all to its end:
      1. create the target, or add a column      an empty table, or a column of defaults; the repeat finds it
      2. insert restatements                     rows of swaps that did not happen; step 3 of the repeat
      3. delete this run's older restatements    removes them, for the repeat inserts all that hold anew, with
                                                 the value before the FIRST attempt where that one was swapped
      4. replace or drop, one per day            some days new, some old, all whole; the repeat finds the new
                                                 ones unchanged and swaps the rest
      5. insert mart_days                        it says less than was done (older batch, or no row); the
                                                 repeat writes every day of the run

    Content is compared by the server's hashes of parts, then by row count and sum of cityHash64 over all columns,
    states by their bytes: equal counts of finalizeAggregation can hide other visitors, and the states here are built
    in a fixed order (macros/audience.sql), so that equal sets are equal bytes. A difference in bytes alone costs one
    needless swap.
-#}
{% materialization day_swap, adapter='clickhouse' %}
    {%- set mart = model.name -%}
    {%- set target = this.incorporate(type='table') -%}
    {%- set build = api.Relation.create(schema=schema, identifier=mart ~ '__build_' ~ build_id(), type='table') -%}
    {%- set run = run_batch() -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}

    {#- 1 -#}
    {%- set held = structures_of(target, build) -%}
    {%- set build_columns = held[build.identifier].columns -%}
    {%- if build_columns | length == 0 -%}
        {{ exceptions.raise_compiler_error(
            mart ~ ": expected the table " ~ build ~ ", found none; build " ~ mart ~ "__build in the same run") }}
    {%- endif -%}
    {%- if config.get('contract').enforced -%}
        {%- do get_assert_columns_equivalent("select * from " ~ build) -%}
    {%- endif -%}
    {%- do ensure_target(target, build, held[target.identifier], held[build.identifier]) -%}
    {%- if held[target.identifier].comments != described() -%}
        {%- do persist_docs(target, model) -%}
    {%- endif -%}

    {%- set days = decide(mart, target, build, build_columns) -%}
    {%- set to_swap = days | selectattr('verdict', 'equalto', 'swapped') | list -%}

    {#- 2, 3 -#}
    {%- do restate(mart, target, build, build_columns, days, run) -%}

    {#- 4 -#}
    {%- for day in to_swap -%}
        {%- call statement('swap_' ~ loop.index) -%}
            {% if day.rows > 0 -%}
            alter table {{ target }} {{ on_cluster_clause(target) }} replace partition '{{ day.day }}' from {{ build }}
            {%- else -%}
            alter table {{ target }} {{ on_cluster_clause(target) }} drop partition '{{ day.day }}'
            {%- endif %}
        {%- endcall -%}
    {%- endfor -%}

    {#- 5 -#}
    {%- call statement('main') -%}
        {{ mart_days_sql(mart, target, days, run) }}
    {%- endcall -%}

    {%- for day in days if day.verdict == 'refused' -%}
        {%- do exceptions.warn(mart ~ " " ~ day.day ~ " refused: " ~ day.why
            ~ ("; it still shows the build before" if day.published else "; nothing was published for it")) -%}
    {%- endfor -%}
    {%- do log(mart ~ ": " ~ to_swap | length ~ " swapped, "
        ~ days | selectattr('verdict', 'equalto', 'unchanged') | list | length ~ " unchanged, "
        ~ days | selectattr('verdict', 'equalto', 'refused') | list | length ~ " refused", info=True) -%}

    {%- do apply_grants(target, config.get('grants'), should_revoke=false) -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{#-
    What the server holds of both tables, from one query: {identifier: {columns, comments, shape}}, columns as
    [{name, type}] in order, comments of the table and then of its columns. Of a table that is not there all are empty.
-#}
{% macro structures_of(target, build) -%}
    {%- set query -%}
        select name as of_table, 0 as place, '' as column_name, '' as column_type, comment,
            partition_key, sorting_key, primary_key, storage_policy
        from system.tables
        where database = {{ quoted(target.schema) }} and name in ({{ quoted(target.identifier) }}, {{ quoted(build.identifier) }})
        union all
        select table as of_table, position as place, name as column_name, type as column_type, comment, '', '', '', ''
        from system.columns
        where database = {{ quoted(target.schema) }} and table in ({{ quoted(target.identifier) }}, {{ quoted(build.identifier) }})
        order by of_table, place
    {%- endset -%}
    {%- set found = {} -%}
    {%- for relation in (target, build) -%}
        {%- do found.update({relation.identifier: {'columns': [], 'comments': [], 'shape': {}}}) -%}
    {%- endfor -%}
    {%- for row in run_query(query).rows -%}
        {%- set of_table = found[row[0]] -%}
        {%- do of_table.comments.append(row[4]) -%}
        {%- if row[1] | int == 0 -%}
            {%- do of_table.shape.update({
                'partition key': row[5], 'sorting key': row[6], 'primary key': row[7], 'storage policy': row[8]}) -%}
        {%- else -%}
            {%- do of_table.columns.append({'name': row[2], 'type': row[3]}) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- Comments as the project describes them: altered only where the server's differ. -#}
{% macro described() -%}
    {%- set texts = [model.description] -%}
    {%- for column in model.columns.values() -%}{%- do texts.append(column.description) -%}{%- endfor -%}
    {{ return(texts) }}
{%- endmacro %}

{#-
    The target has exactly the build's structure, which REPLACE PARTITION demands. It is made from the build,
    that is from the contract, on the first run. An added column is added; every other difference is refused.
-#}
{% macro ensure_target(target, build, held, wanted) -%}
    {%- if held.columns | length == 0 -%}
        {%- call statement('create_target') -%}
            create table if not exists {{ target }} {{ on_cluster_clause(target) }} as {{ build }}
        {%- endcall -%}
        {{ return(none) }}
    {%- endif -%}

    {%- set held_types = {} -%}
    {%- for column in held.columns -%}{%- do held_types.update({column.name: column.type}) -%}{%- endfor -%}
    {%- set wanted_types = {} -%}
    {%- for column in wanted.columns -%}{%- do wanted_types.update({column.name: column.type}) -%}{%- endfor -%}
    {%- set problems = [] -%}
    {%- for column in held.columns -%}
        {%- if column.name not in wanted_types -%}
            {%- do problems.append("column " ~ column.name ~ " is gone") -%}
        {%- elif wanted_types[column.name] != column.type -%}
            {%- do problems.append(
                "column " ~ column.name ~ " was " ~ column.type ~ ", is " ~ wanted_types[column.name]) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for what, was in held.shape.items() if was != wanted.shape[what] -%}
        {%- do problems.append(what ~ " was (" ~ was ~ "), is (" ~ wanted.shape[what] ~ ")") -%}
    {%- endfor -%}
    {%- if problems -%}
        {%- set held_name = target.schema ~ "." ~ target.identifier -%}
        {{ exceptions.raise_compiler_error(
            held_name ~ " cannot take days of the new structure: " ~ problems | join('; ')
            ~ ". Nothing was swapped. Rename the table away (rename table " ~ held_name ~ " to " ~ held_name
            ~ "__before), then build all days again: the first run makes it anew") }}
    {%- endif -%}

    {%- set ns = namespace(after='first') -%}
    {%- for column in wanted.columns -%}
        {%- if column.name not in held_types -%}
            {%- call statement('add_column_' ~ loop.index) -%}
                alter table {{ target }} {{ on_cluster_clause(target) }}
                add column if not exists `{{ column.name }}` {{ column.type }} {{ ns.after }}
            {%- endcall -%}
            {%- do exceptions.warn(
                target ~ ": column " ~ column.name ~ " was added; days that are not built again show its default, "
                ~ "so build all days again") -%}
        {%- endif -%}
        {%- set ns.after = "after `" ~ column.name ~ "`" -%}
    {%- endfor -%}
{%- endmacro %}

{#-
    [{day, rows, held_rows, verdict, why, published}] for each day of the run.

    The server keeps a hash of every part. A day that is one part on either side, with the same hash and as many
    rows, has the same content: most days of most builds, and none of their rows is read. Of the rest content is
    compared, for parts of the same rows may differ.
-#}
{% macro decide(mart, target, build, build_columns) -%}
    {%- set gates = gates_of(mart) -%}
    {%- set query -%}
        with
            {{ day_array() }} as run_days,
            contents as (
                select metric_date as day, sumIf(counted, is_build) as rows, sumIf(counted, not is_build) as held_rows
                from (
                    select true as is_build, metric_date, count() as counted
                    from {{ build }} where metric_date in run_days group by metric_date
                    union all
                    select false as is_build, metric_date, count() as counted
                    from {{ target }} where metric_date in run_days group by metric_date
                )
                group by metric_date
            ),
            parts as (
                select
                    toDate32(partition) as day,
                    countIf(table = {{ quoted(build.identifier) }}) = 1
                    and countIf(table = {{ quoted(target.identifier) }}) = 1
                    and uniqExact(uncompressed_hash_of_compressed_files) = 1
                    and max(has_lightweight_delete) = 0 as same_parts
                from system.parts
                where
                    active and database = {{ quoted(target.schema) }}
                    and table in ({{ quoted(build.identifier) }}, {{ quoted(target.identifier) }})
                    and partition in ({{ days_literal() }})
                group by partition
            ),
            judged as (
                select metric_date as day, gate, argMax(failures, judged_at) as failing_rows
                from analytics.mart_verdicts
                where run_id = {{ quoted(build_id()) }} and mart = {{ quoted(mart) }} and metric_date in run_days
                group by metric_date, gate
            ),
            verdicts as (
                select day, groupArray(gate) as gates, groupArrayIf(concat(gate, ' (', toString(failing_rows), ')'), failing_rows > 0) as failed
                from judged
                group by day
            ),
            known as (
                select day, batch from analytics.mart_days final where mart = {{ quoted(mart) }} and day in run_days
            )
        select
            toString(days.day),
            contents.rows,
            contents.held_rows,
            contents.rows = contents.held_rows and (contents.rows = 0 or parts.same_parts),
            known.batch > 0 or contents.held_rows > 0,
            arrayStringConcat(arraySort(verdicts.failed), ', '),
            arrayStringConcat(arrayFilter(
                gate -> not has(verdicts.gates, gate),
                cast([{% for gate in gates %}{{ quoted(gate) }}{{ ', ' if not loop.last }}{% endfor %}] as Array(String))
            ), ', ')
        from (select arrayJoin(run_days) as day) as days
        left join contents on days.day = contents.day
        left join parts on days.day = parts.day
        left join verdicts on days.day = verdicts.day
        left join known on days.day = known.day
        order by days.day
    {%- endset -%}
    {%- set decided = run_query(query).rows -%}
    {%- set same = [] -%}
    {%- set compared = [] -%}
    {%- for row in decided -%}
        {%- do (same if row[3] | int == 1 else compared if row[1] == row[2] else []).append(row[0]) -%}
    {%- endfor -%}
    {%- if compared -%}
        {%- set same = same + same_content(target, build, build_columns, compared) -%}
    {%- endif -%}
    {%- set days = [] -%}
    {%- for row in decided -%}
        {%- set why = [] -%}
        {%- if gates | length == 0 -%}{%- do why.append("no gate judges this mart") -%}{%- endif -%}
        {%- if row[5] -%}{%- do why.append("failed " ~ row[5]) -%}{%- endif -%}
        {%- if row[6] -%}{%- do why.append("no verdict of " ~ row[6]) -%}{%- endif -%}
        {%- do days.append({
            'day': row[0],
            'rows': row[1] | int,
            'held_rows': row[2] | int,
            'published': row[4] | int == 1,
            'verdict': 'refused' if why else ('unchanged' if row[0] in same else 'swapped'),
            'why': why | join('; '),
        }) -%}
    {%- endfor -%}
    {{ return(days) }}
{%- endmacro %}

{#- Those of `days` whose rows are the same on both sides. -#}
{% macro same_content(target, build, build_columns, days) -%}
    {%- set columns = build_columns | map(attribute='name') | join(', ') -%}
    {%- set listed = "'" ~ days | join("', '") ~ "'" -%}
    {%- set found = run_query(
        "select toString(metric_date) from ("
        ~ "select true as is_build, metric_date, cityHash64(" ~ columns ~ ") as content from " ~ build ~ " where metric_date in (" ~ listed ~ ")"
        ~ " union all "
        ~ "select false, metric_date, cityHash64(" ~ columns ~ ") from " ~ target ~ " where metric_date in (" ~ listed ~ ")"
        ~ ") group by metric_date having sumIf(content, is_build) = sumIf(content, not is_build)") -%}
    {{ return(found.rows | map(attribute=0) | list) }}
{%- endmacro %}

{#-
    What the swaps are about to change in days that readers have already seen, cell by cell. Where an earlier
    attempt of this run has swapped the day already (its value_after is what stands now), value_before is
    carried over from it, so that the run's rows always lead from before the run to what it published.
-#}
{% macro restate(mart, target, build, build_columns, days, run) -%}
    {%- set published = days | selectattr('published') | list -%}
    {%- set mine = "run_id = " ~ quoted(build_id()) ~ " and mart = " ~ quoted(mart) -%}
    {%- set earlier = run_query(
        "select count(), toString(now64(6)) from analytics.metric_restatements where " ~ mine).rows[0] -%}
    {%- set changed = published | selectattr('verdict', 'equalto', 'swapped') | list -%}
    {%- set repeated = earlier[0] | int > 0 -%}
    {%- if not repeated and changed | length == 0 -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set wanted = published if repeated else changed -%}
    {%- set swapped_days = ["''"] -%}
    {%- for day in changed -%}{%- do swapped_days.append("'" ~ day.day ~ "'") -%}{%- endfor -%}
    {%- set grain = config.require('meta')['grain'] -%}
    {%- set columns = build_columns | map(attribute='name') | join(', ') -%}
    {%- set reasons = var('reasons', {}) or {} -%}

    {%- if wanted -%}
    {%- call statement('restate') -%}
        insert into analytics.metric_restatements
            (mart, metric_date, keys, metric, value_before, value_after, reason, run_id, batch, restated_at)
        with
            [{% for day in wanted %}toDate32('{{ day.day }}'){{ ', ' if not loop.last }}{% endfor %}] as wanted_days,
            {% if repeated -%}
            mine as (
                select metric_date, keys, metric, value_before, value_after
                from analytics.metric_restatements final
                where {{ mine }}
            ),
            {%- endif %}
            cells as (
                select metric_date, keys, cell.1 as metric, sumIf(cell.2, side = 'target') as held, sumIf(cell.2, side = 'build') as built
                from (
                    {% for side, relation, other in [('target', target, build), ('build', build, target)] -%}
                    select
                        '{{ side }}' as side,
                        metric_date,
                        cast(map({% for key in grain if key != 'metric_date' -%}
                            '{{ key }}', toString({{ key }}){{ ', ' if not loop.last }}
                        {%- endfor %}) as Map(LowCardinality(String), String)) as keys,
                        [{% for column in build_columns if column.name not in grain -%}
                            ('{{ column.name }}', {{ as_decimal(column) }}){{ ', ' if not loop.last }}
                        {%- endfor %}] as cells
                    from {{ relation }} where metric_date in wanted_days
                    {%- if not repeated %}
                        -- a row that stands on both sides changes nothing
                        and cityHash64({{ columns }}) not in (
                            select cityHash64({{ columns }}) from {{ other }} where metric_date in wanted_days
                        )
                    {%- endif %}
                    {{ 'union all' if repeated or not loop.last }}
                    {% endfor -%}
                    {% if repeated -%}
                    -- cells that an earlier attempt has removed from both already
                    select 'mine' as side, metric_date, keys, [(toString(metric), toDecimal128(0, 3))] as cells
                    from mine where metric_date in wanted_days
                    {%- endif %}
                )
                array join cells as cell
                group by metric_date, keys, metric
            )
        select
            {{ quoted(mart) }},
            metric_date,
            keys,
            metric,
            before,
            after,
            transform(toString(metric_date),
                [{% for day in wanted %}'{{ day.day }}'{{ ', ' if not loop.last }}{% endfor %}],
                [{% for day in wanted %}{{ quoted(reasons.get(day.day, 'rebuilt')) }}{{ ', ' if not loop.last }}{% endfor %}],
                'rebuilt'),
            {{ quoted(build_id()) }},
            {{ run.batch }},
            toDateTime64('{{ earlier[1] }}', 6, 'UTC')
        from (
            {% if repeated -%}
            select
                cells.metric_date as metric_date,
                cells.keys as keys,
                cells.metric as metric,
                if(mine.metric <> '' and mine.value_after = cells.held, mine.value_before, cells.held) as before,
                if(toString(cells.metric_date) in ({{ swapped_days | join(', ') }}), cells.built, cells.held) as after
            from cells
            left join mine
                on cells.metric_date = mine.metric_date and cells.keys = mine.keys and cells.metric = mine.metric
            {%- else -%}
            select metric_date, keys, metric, held as before, built as after from cells
            {%- endif %}
        )
        where before <> after
    {%- endcall -%}
    {%- endif -%}
    {%- if repeated -%}
        {%- call statement('forget_restatements') -%}
            delete from analytics.metric_restatements
            where {{ mine }} and metric_date in {{ day_array() }} and restated_at < toDateTime64('{{ earlier[1] }}', 6, 'UTC')
        {%- endcall -%}
    {%- endif -%}
{%- endmacro %}

{% macro as_decimal(column) -%}
    {%- if column.type.startswith('AggregateFunction') -%}
        toDecimal128(finalizeAggregation({{ column.name }}), 3)
    {%- else -%}
        toDecimal128({{ column.name }}, 3)
    {%- endif -%}
{%- endmacro %}

{#- A refused day keeps batch and as_of of what it still shows; batch 0 where nothing was ever published. -#}
{% macro mart_days_sql(mart, target, days, run) -%}
    insert into analytics.mart_days (mart, day, is_final, as_of, batch, rows, verdict, run_id)
    with
        {{ day_array() }} as run_days,
        toDateTime64('{{ run.as_of }}', 6, 'UTC') as run_as_of,
        toDateTime64('{{ run.settled_until }}', 6, 'UTC') as settled_until,
        known as (
            select day, is_final, as_of, batch from analytics.mart_days final where mart = {{ quoted(mart) }} and day in run_days
        ),
        held as (
            select metric_date as day, count() as rows from {{ target }} where metric_date in run_days group by metric_date
        )
    select
        {{ quoted(mart) }},
        decided.day,
        -- the day is over in every zone 12 hours after its end in UTC, and who wrote then has ended
        if(decided.verdict = 'refused', known.is_final, settled_until >= toDateTime64(toString(decided.day), 6, 'UTC') + interval 36 hour),
        if(decided.verdict = 'refused', known.as_of, run_as_of),
        if(decided.verdict = 'refused', known.batch, {{ run.batch }}),
        held.rows,
        decided.verdict,
        {{ quoted(build_id()) }}
    from (
        select
            decision.1 as day,
            decision.2 as verdict
        from (
            select arrayJoin([
                {%- for day in days %} (toDate32('{{ day.day }}'), '{{ day.verdict }}'){{ ',' if not loop.last }}{% endfor -%}
            ]) as decision
        )
    ) as decided
    left join known on decided.day = known.day
    left join held on decided.day = held.day
{%- endmacro %}
