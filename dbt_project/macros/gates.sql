{#-
    Gates are data tests with `config.meta.gate: true` on fct_x__build. Each writes one verdict per day of
    the run into analytics.mart_verdicts (macros/materializations/test.sql); day_swap reads them.
-#}

{#- Runs before a build: what an earlier, killed attempt under the same build_id judged is no evidence for this one. -#}
{% macro forget_verdicts() -%}
    {%- if execute -%}
        {%- set mart = mart_of_build(model.name) -%}
        {%- set held = run_query(
            "select count() from analytics.mart_verdicts where run_id = " ~ quoted(build_id()) ~ " and mart = " ~ quoted(mart)) -%}
        {%- if held.rows[0][0] | int > 0 -%}
            delete from analytics.mart_verdicts where run_id = {{ quoted(build_id()) }} and mart = {{ quoted(mart) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{% macro mart_of_build(name) -%}
    {{ return(name[: -('__build' | length)] if name.endswith('__build') else name) }}
{%- endmacro %}

{#- Which mart a gate judges: that of the build it is attached to, or its own meta.mart (singular tests). -#}
{% macro mart_of_gate(node) -%}
    {%- if node.config.meta.get('mart') -%}
        {{ return(node.config.meta.get('mart')) }}
    {%- elif node.attached_node -%}
        {{ return(mart_of_build(node.attached_node.split('.')[-1])) }}
    {%- endif -%}
    {{ exceptions.raise_compiler_error("gate " ~ node.name ~ " belongs to no mart: expected meta.mart, or a test attached to a build") }}
{%- endmacro %}

{#- Names of all gates of a mart, from the graph. An empty list means no evidence, and no day is published. -#}
{% macro gates_of(mart) -%}
    {%- set gates = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'test' and node.config.meta.get('gate') -%}
        {%- if mart_of_gate(node) == mart -%}{%- do gates.append(node.name) -%}{%- endif -%}
    {%- endfor -%}
    {{ return(gates | sort) }}
{%- endmacro %}
