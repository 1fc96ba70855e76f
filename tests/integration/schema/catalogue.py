"""A schema as PostgreSQL's catalogues describe it: one sorted set of lines per kind of object.

Two schemas are the same when these are equal. Nothing here depends on oids or on the order of
creation. Privileges are compared as they work, not as they are stored (no entry means the default).
Left out: extensions' members, the history of migrations (a table of the runner itself).
"""

from __future__ import annotations

from bilten_orchestration.stores.postgres import Connection

_OURS = """
    with ours as (
        select oid, nspname from pg_namespace
        where nspname !~ '^pg_' and nspname <> 'information_schema'
    ),
    members as (select classid, objid from pg_depend where deptype = 'e'),
    relations as (
        select c.*, n.nspname || '.' || c.relname as name
        from pg_class c join ours n on n.oid = c.relnamespace
        where (1259, c.oid) not in (select classid::int, objid from members)
          and c.relname <> 'migrations' and c.relname <> 'migrations_pkey'
    )
"""
_RELACL = (
    "coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::\"char\", c.relowner))"
)
_ACL = """
    concat_ws(' ', pg_get_userbyid(a.grantor), coalesce(nullif(a.grantee, 0)::regrole::text, 'public'),
              a.privilege_type, a.is_grantable)
"""

QUERIES: dict[str, str] = {
    "schemas": """
        select nspname || ' ' || pg_get_userbyid(nspowner) || ' ' || coalesce(obj_description(oid), '')
        from pg_namespace where oid in (select oid from ours)
    """,
    "schema privileges": f"""
        select s.nspname || ' ' || {_ACL}
        from pg_namespace s, aclexplode(coalesce(s.nspacl, acldefault('n', s.nspowner))) a
        where s.oid in (select oid from ours)
    """,
    "relations": """
        select concat_ws(' ', c.name, c.relkind, pg_get_userbyid(c.relowner), c.relpersistence,
                         c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reloptions,
                         pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
                         obj_description(c.oid, 'pg_class'))
        from relations c
    """,
    "columns": """
        select concat_ws(' ', c.name, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod),
                         a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
                         a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid),
                         col_description(c.oid, a.attnum))
        from relations c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    """,
    "privileges": f"""
        select c.name || ' ' || {_ACL} from relations c, aclexplode({_RELACL}) a
        where c.relkind in ('r', 'p', 'v', 'm', 'S')
    """,
    "column privileges": f"""
        select c.name || '.' || t.attname || ' ' || {_ACL}
        from relations c join pg_attribute t on t.attrelid = c.oid and t.attnum > 0, aclexplode(t.attacl) a
    """,
    "default privileges": f"""
        select concat_ws(' ', d.defaclnamespace::regnamespace, d.defaclobjtype, {_ACL})
        from pg_default_acl d, aclexplode(d.defaclacl) a
    """,
    "constraints": """
        select concat_ws(' ', c.name, k.conname, pg_get_constraintdef(k.oid), k.convalidated, k.condeferrable,
                         k.condeferred, obj_description(k.oid, 'pg_constraint'))
        from relations c join pg_constraint k on k.conrelid = c.oid
    """,
    "indexes": """
        select concat_ws(' ', c.name, pg_get_indexdef(i.indexrelid),
                         i.indisvalid, i.indisprimary, i.indisreplident)
        from relations c join pg_index i on i.indrelid = c.oid
    """,
    "triggers": """
        select concat_ws(' ', c.name, pg_get_triggerdef(t.oid), t.tgenabled,
                         obj_description(t.oid, 'pg_trigger'))
        from relations c join pg_trigger t on t.tgrelid = c.oid where not t.tgisinternal
    """,
    "functions": """
        select concat_ws(' ', p.oid::regprocedure, pg_get_functiondef(p.oid), pg_get_userbyid(p.proowner),
                         obj_description(p.oid, 'pg_proc'))
        from pg_proc p join ours n on n.oid = p.pronamespace
        where (1255, p.oid) not in (select classid::int, objid from members)
    """,
    "function privileges": f"""
        select p.oid::regprocedure || ' ' || {_ACL}
        from pg_proc p join ours n on n.oid = p.pronamespace,
             aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where (1255, p.oid) not in (select classid::int, objid from members)
    """,
    "types": """
        select concat_ws(' ', t.oid::regtype, t.typtype, obj_description(t.oid, 'pg_type'),
                         (select string_agg(e.enumlabel, ',' order by e.enumsortorder)
                          from pg_enum e where e.enumtypid = t.oid))
        from pg_type t join ours n on n.oid = t.typnamespace
        where t.typtype in ('e', 'd', 'r') and (1247, t.oid) not in (select classid::int, objid from members)
    """,
    "type privileges": f"""
        select t.oid::regtype || ' ' || {_ACL}
        from pg_type t join ours n on n.oid = t.typnamespace,
             aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
        where t.typtype in ('e', 'd', 'r') and (1247, t.oid) not in (select classid::int, objid from members)
    """,
    "views": "select c.name || ' ' || pg_get_viewdef(c.oid) from relations c where c.relkind in ('v', 'm')",
    "sequences": """
        select concat_ws(' ', c.name, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmax, s.seqmin,
                         s.seqcache, s.seqcycle)
        from relations c join pg_sequence s on s.seqrelid = c.oid
    """,
    "policies": """
        select concat_ws(' ', c.name, p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[],
                         pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        from relations c join pg_policy p on p.polrelid = c.oid
    """,
    "rules": """
        select c.name || ' ' || pg_get_ruledef(r.oid) from relations c join pg_rewrite r on r.ev_class = c.oid
        where c.relkind not in ('v', 'm')
    """,
    "statistics": """
        select concat_ws(' ', pg_get_statisticsobjdef(s.oid), obj_description(s.oid, 'pg_statistic_ext'))
        from pg_statistic_ext s join ours n on n.oid = s.stxnamespace
    """,
    "event triggers": """
        select concat_ws(' ', evtname, evtevent, evtfoid::regproc, evtenabled) from pg_event_trigger
    """,
    "publications": """
        select concat_ws(' ', p.pubname, p.puballtables, t.schemaname, t.tablename)
        from pg_publication p left join pg_publication_tables t on t.pubname = p.pubname
    """,
    "settings": """
        select concat_ws(' ', s.setrole::regrole, s.setconfig) from pg_db_role_setting s
        join pg_database d on d.oid = s.setdatabase where d.datname = current_database()
    """,
    "roles": """
        select concat_ws(' ', r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb,
                         r.rolreplication, r.rolbypassrls, r.rolconfig, m.roleid::regrole, m.admin_option)
        from pg_roles r left join pg_auth_members m on m.member = r.oid where r.rolname ~ '^bilten_'
    """,
    "extensions": "select concat_ws(' ', extname, extversion, extnamespace::regnamespace) from pg_extension",
}


def describe(connection: Connection) -> dict[str, list[str]]:
    """Kind of object -> sorted descriptions. Each kind is there even when it is empty."""
    return {
        kind: sorted(str(text) for (text,) in connection.execute(_OURS + query).fetchall())
        for kind, query in QUERIES.items()
    }
