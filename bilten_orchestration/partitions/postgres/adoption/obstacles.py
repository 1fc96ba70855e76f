"""Everything that forbids an adoption: told at once, each with the way out.

Forbidden is what the new parent could not be given without changing what the table means. A unique index
without the key would no longer be unique over all months, so nobody but a person drops it; a foreign key
to the table needs such an index, or another key. Whatever hangs on the table and is not known here
(shape.py) is refused too: missing knowledge is no reason to go on.
"""

from __future__ import annotations

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres.adoption.names import first_name
from bilten_orchestration.stores.postgres import Connection


def obstacles(connection: Connection, table: PartitionedTable) -> list[Problem]:
    """Everything that forbids it; each with the way out."""
    found = []
    for query, what, expected, way_out in _OBSTACLES:
        for name, detail in connection.execute(
            query, {"table": table.name, "column": table.column, "first": first_name(table)}
        ).fetchall():
            words = {"name": name, "table": table.name, "column": table.column}
            found.append(
                Problem(
                    what.format(**words), expected=expected.format(**words), found=str(detail),
                    next=way_out.format(**words),
                )
            )  # fmt: skip
    return found


# (query for name and detail, what, expected, way out); ordered as people would look
_OBSTACLES: tuple[tuple[str, str, str, str], ...] = (
    (
        """
        select coalesce(a.attname, %(column)s), coalesce(format_type(a.atttypid, null)
               || case when a.attnotnull then '' else ', nullable' end, 'no such column')
        from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attname = %(column)s
        where c.oid = %(table)s::regclass
          and (a.attnum is null or a.atttypid <> 'timestamptz'::regtype or not a.attnotnull
               or a.attgenerated <> '')
        """,
        "{table}.{name} cannot decide partitions",
        "timestamptz, not null, not generated",
        "alter table {table} alter {column} set not null, or set its type",
    ),
    (
        """
        select c.relname, pg_get_indexdef(c.oid)
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = %(table)s::regclass and i.indisunique and not i.indisexclusion
          and not exists (select from pg_attribute a where a.attrelid = i.indrelid and a.attname = %(column)s
                                                     and a.attnum = any (i.indkey[0:i.indnkeyatts - 1]))
        """,
        "the unique index {name} of {table} does not contain {column}",
        "every unique index contains the key, for it is kept per partition: primary key (id, {column})",
        "create unique index concurrently on {table} (<its columns>, {column}), then in one transaction drop"
        " {name} and, where it is the primary key, add primary key using index <the new one>",
    ),
    (
        """
        select c.relname, pg_get_indexdef(c.oid)
        from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = %(table)s::regclass and (i.indisexclusion or not i.indisvalid)
        """,
        "the index {name} of {table} cannot be kept",
        "valid indexes, no exclusion constraints",
        "drop it, or reindex it when it is invalid",
    ),
    (
        """
        select conname, conrelid::regclass || ' ' || pg_get_constraintdef(oid)
        from pg_constraint where confrelid = %(table)s::regclass and contype = 'f' and conparentid = 0
        """,
        "the foreign key {name} refers to {table}",
        "none: it would have to be dropped and validated again under lock",
        "drop it, adopt, and add it again NOT VALID with {column} as part of it; or keep {table} as it is",
    ),
    (
        """
        select conname, pg_get_constraintdef(oid) from pg_constraint
        where conrelid = %(table)s::regclass and contype in ('f', 'c')
          and (not convalidated or contype = 'c' and connoinherit) and conname not like '%%\\_adopt\\_bounds'
        """,
        "the constraint {name} of {table} is not valid, or NO INHERIT",
        "validated, so that it is attached without reading the table",
        "alter table {table} validate constraint {name}; NO INHERIT: drop and add it without",
    ),
    (
        """
        select tgname, pg_get_triggerdef(oid) from pg_trigger
        where tgrelid = %(table)s::regclass and not tgisinternal
          and (tgconstraint <> 0 or tgtype & 1 = 1 and (tgoldtable is not null or tgnewtable is not null))
        """,
        "the trigger {name} of {table} cannot be on a partitioned table",
        "no constraint triggers, no row triggers with transition tables",
        "make it a plain row trigger, or one per statement",
    ),
    (
        """
        select p.pubname, 'publish_via_partition_root = false'
        from pg_publication_tables t join pg_publication p on p.pubname = t.pubname
        where not p.pubviaroot
          and (t.schemaname, t.tablename) = (select relnamespace::regnamespace::text, relname from pg_class
                                             where oid = %(table)s::regclass)
        """,
        "the publication {name} would publish partitions in place of {table}",
        "publish_via_partition_root, so that subscribers see the table under its name",
        "alter publication {name} set (publish_via_partition_root = true)",
    ),
    (
        """
        select c.relname, concat_ws(', ', case when relpersistence <> 'p' then 'not permanent' end,
               case when relispartition or relhassubclass
                      or exists (select from pg_inherits where inhrelid = c.oid) then 'inheritance' end,
               case when reloftype <> 0 then 'typed' end,
               case when relrowsecurity or exists (select from pg_policy where polrelid = c.oid)
                    then 'row security' end,
               case when exists (select from pg_rewrite where ev_class = c.oid) then 'rules' end)
        from pg_class c where c.oid = %(table)s::regclass
          and (relpersistence <> 'p' or relispartition or relhassubclass or reloftype <> 0 or relrowsecurity
               or exists (select from pg_inherits where inhrelid = c.oid)
               or exists (select from pg_policy where polrelid = c.oid)
               or exists (select from pg_rewrite where ev_class = c.oid))
        """,
        "{table} is of a kind that is not adopted",
        "a permanent table, without inheritance, type, rules, row security",
        "take that away first",
    ),
    (
        """
        select %(first)s, 'a ' || case relkind when 'i' then 'n index' else 'relation' end || ' of that name'
        from pg_class where relname = %(first)s
          and relnamespace = (select relnamespace from pg_class where oid = %(table)s::regclass)
        union all
        select %(first)s, 'longer than 63 bytes' where octet_length(%(first)s) > 63
        """,
        "the first partition of {table} cannot be named {name}",
        "a free name of 63 bytes at most",
        "rename what has it",
    ),
    (
        """
        with types as (
            select oid from pg_type where typrelid = %(table)s::regclass
            union all
            select typarray from pg_type where typrelid = %(table)s::regclass
        )
        select distinct pg_describe_object(d.classid, d.objid, 0),
                        'it is bound to the table itself, not to its name'
        from pg_depend d
        left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
        left join pg_constraint n on d.classid = 'pg_constraint'::regclass and n.oid = d.objid
        left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        left join pg_class v on v.oid = r.ev_class
        left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
        where (d.refclassid = 'pg_class'::regclass and d.refobjid = %(table)s::regclass
               and not coalesce(c.relkind in ('i', 'S', 't'), false)
               and not coalesce(n.conrelid = %(table)s::regclass or n.confrelid = %(table)s::regclass, false)
               and not coalesce(v.relkind = 'v', false)
               and not coalesce(p.prosqlbody is not null, false)
               and d.classid not in ('pg_attrdef'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass,
                                     'pg_publication_rel'::regclass, 'pg_statistic_ext'::regclass)
               and not (d.classid = 'pg_type'::regclass and d.objid in (select oid from types)))
           or (d.refclassid = 'pg_type'::regclass and d.refobjid in (select oid from types)
               and d.classid <> 'pg_type'::regclass)
        """,
        "{name} depends on {table}",
        "views, and functions with a body of SQL: those are bound anew",
        "drop it, adopt, and make it again",
    ),
)
