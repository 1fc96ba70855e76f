"""What the server that a dump is restored onto is asked."""

from __future__ import annotations

ME = """
    select rolname::text, rolsuper, rolcreatedb, current_setting('server_version'),
           current_setting('server_version_num')::int / 10000
    from pg_roles where rolname = current_user
"""
MISSING_ROLES = """
    select role from unnest(%s::text[]) role
    where not exists (select from pg_roles where rolname = role) order by 1
"""
FOREIGN_ROLES = """
    select rolname::text from pg_roles
    where rolname = any(%s::text[]) and not pg_has_role(current_user, oid, 'member') order by 1
"""
# whether somebody who is no superuser may create it: in every version that could be chosen
EXTENSIONS = """
    select name::text, bool_or(trusted or not superuser) from pg_available_extension_versions
    where name = any(%s::text[]) group by 1
"""
# as pg_restore's list has them: kind, schema or -, name
LABELS = r"""
    with s as (select oid, nspname from pg_namespace
               where nspname not like 'pg\_%' and nspname <> 'information_schema'),
    kinds (relkind, kind) as (values
      ('r', 'TABLE'), ('p', 'TABLE'), ('f', 'FOREIGN TABLE'), ('v', 'VIEW'), ('m', 'MATERIALIZED VIEW'),
      ('S', 'SEQUENCE'), ('i', 'INDEX'), ('I', 'INDEX')),
    routines as (
      select case prokind when 'p' then 'PROCEDURE' when 'a' then 'AGGREGATE' else 'FUNCTION' end as kind,
             nspname, proname,
             array(select format_type(a, null) from unnest(proargtypes) with ordinality o (a, n)
                   order by n) as arguments
      from pg_proc p join s on s.oid = p.pronamespace)
    select 'SCHEMA - ' || nspname from s
    union all
    select 'EXTENSION - ' || extname from pg_extension
    union all
    select kind || ' ' || nspname || ' ' || relname
    from pg_class c join s on s.oid = c.relnamespace join kinds k on k.relkind = c.relkind::text
    union all
    select case typtype when 'd' then 'DOMAIN' else 'TYPE' end || ' ' || nspname || ' ' || typname
    from pg_type t join s on s.oid = t.typnamespace
    union all
    select kind || ' ' || nspname || ' ' || proname || '(' || array_to_string(arguments, ', ') || ')'
    from routines
    union all
    select 'CONSTRAINT ' || nspname || ' ' || relname || ' ' || conname
    from pg_constraint k join pg_class c on c.oid = k.conrelid join s on s.oid = c.relnamespace
"""
# what is not an extension's own
HOLDS = r"""
    select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
                     and not exists (select from pg_depend e where e.objid = c.oid and e.deptype = 'e'))
        or exists (select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                   where n.nspname not like 'pg\_%' and n.nspname <> 'information_schema'
                     and not exists (select from pg_depend e where e.objid = p.oid and e.deptype = 'e'))
"""
