{#- Databases carry fixed names on every server: `+schema: marts` is the database marts. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}

{#- Tables of one run carry its id, so that two runs never write the same table. -#}
{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
    {%- if custom_alias_name -%}
        {{ custom_alias_name | trim }}
    {%- elif node.resource_type == 'model' and node.name.endswith('__build') -%}
        {{ node.name ~ '_' ~ build_id() }}
    {%- else -%}
        {{ node.name }}
    {%- endif -%}
{%- endmacro %}
