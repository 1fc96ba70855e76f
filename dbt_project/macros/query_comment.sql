{% macro query_comment(node) -%}
    {#- As dbt's own, with the run of Dagster; metrics/server_costs.py reads it. -#}
    {%- set said = {"app": "dbt", "dbt_version": dbt_version} -%}
    {%- if node is not none -%}
        {%- do said.update({"node_id": node.unique_id}) -%}
    {%- endif -%}
    {%- set origin = env_var("DBT_ENV_CUSTOM_ENV_ORIGIN", "") -%}
    {%- if origin -%}
        {%- do said.update({"origin": origin}) -%}
    {%- endif -%}
    {{ return(tojson(said)) }}
{%- endmacro %}
