"""What makes a partition like its parent, beyond what LIKE INCLUDING ALL and ATTACH bring.

LIKE brings columns, defaults, CHECKs, indexes, extended statistics, comments of columns, compression and
storage of columns; ATTACH brings foreign keys and row triggers. Left over are, here: owner, tablespace and
access method, storage parameters (declared), statistics targets and options of columns, row security with
its policies, replica identity, privileges.
"""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from bilten_orchestration.stores.postgres import Connection

_PLACE = """
    select spcname, amname
    from pg_class c left join pg_tablespace t on t.oid = c.reltablespace left join pg_am a on a.oid = c.relam
    where c.oid = %s::regclass
"""
_COLUMNS = """
    select attname, (to_jsonb(a) ->> 'attstattarget')::int, attoptions
    from pg_attribute a
    where attrelid = %s::regclass and attnum > 0 and not attisdropped
      and (coalesce((to_jsonb(a) ->> 'attstattarget')::int, -1) >= 0 or attoptions is not null)
"""
_OWNERS = """
    select p.relowner = c.relowner, quote_ident(pg_get_userbyid(p.relowner)),
           p.relrowsecurity, p.relforcerowsecurity, p.relreplident::text
    from pg_class p, pg_class c where p.oid = %s::regclass and c.oid = %s::regclass
"""
_POLICIES = """
    select polname, case when polpermissive then 'permissive' else 'restrictive' end,
           array(select case when r = 0 then null else pg_get_userbyid(r) end from unnest(polroles) r),
           case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                       when 'd' then 'delete' else 'all' end,
           pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
    from pg_policy where polrelid = %s::regclass order by polname
"""
_IDENTITY = """
    select c.relname from pg_index p join pg_inherits h on h.inhparent = p.indexrelid
    join pg_index i on i.indexrelid = h.inhrelid join pg_class c on c.oid = i.indexrelid
    where p.indrelid = %s::regclass and p.indisreplident and i.indrelid = %s::regclass
"""
_GRANTEES = """
    select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
    from pg_class c, aclexplode(c.relacl) a
    where c.oid = %s::regclass and a.grantee <> c.relowner
"""
_GRANTED = """
    with granted as (
        select a.privilege_type, null::name as attname, a.grantee, a.is_grantable
        from pg_class c, aclexplode(c.relacl) a
        where c.oid = %(parent)s::regclass and a.grantee <> c.relowner
        union all
        select a.privilege_type, t.attname, a.grantee, a.is_grantable
        from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
        where c.oid = %(parent)s::regclass and not t.attisdropped
    )
    select privilege_type,
           coalesce('(' || string_agg(quote_ident(attname), ', ' order by attname) || ')', ''),
           case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
           is_grantable
    from granted group by privilege_type, attname is null, grantee, is_grantable
    order by 1, 2, 3
"""


def create_like(
    connection: Connection, parent: sql.Identifier, child: sql.Identifier, storage: Mapping[str, str]
) -> None:
    """A standalone table like the parent, ready to be attached: `finish` does the rest after that.

    In the caller's transaction. Locks the parent as a SELECT does.
    """
    text = parent.as_string(connection)
    row = connection.execute(_PLACE, (text,)).fetchone()
    assert row is not None  # noqa: S101
    tablespace, method = row
    parameters = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.SQL(key), sql.Literal(value)) for key, value in storage.items()
    )
    connection.execute(
        sql.SQL(
            "create table {child} (like {parent} including all excluding identity)"
            "{method}{storage}{tablespace}"
        ).format(
            child=child,
            parent=parent,
            method=sql.SQL(" using {}").format(sql.Identifier(method)) if method else sql.SQL(""),
            storage=sql.SQL(" with ({})").format(parameters) if storage else sql.SQL(""),
            tablespace=sql.SQL(" tablespace {}").format(sql.Identifier(tablespace))
            if tablespace
            else sql.SQL(""),
        )
    )
    for name, target, options in connection.execute(_COLUMNS, (text,)).fetchall():
        column = sql.SQL("alter table {} alter column {} ").format(child, sql.Identifier(name))
        if target is not None and target >= 0:
            connection.execute(column + sql.SQL("set statistics {}").format(sql.Literal(target)))
        if options:
            connection.execute(column + sql.SQL("set ({})").format(sql.SQL(", ".join(options))))
    _security(connection, parent, child)
    privileges(connection, parent, child)


def finish(connection: Connection, parent: sql.Identifier, child: sql.Identifier) -> None:
    """Once it is attached: what hangs on indexes that belong to the parent's."""
    names = (parent.as_string(connection), child.as_string(connection))
    row = connection.execute(_OWNERS, names).fetchone()
    assert row is not None  # noqa: S101
    identity = row[4]
    alter = sql.SQL("alter table {} replica identity ").format(child)
    if identity == "f":
        connection.execute(alter + sql.SQL("full"))
    elif identity == "n":
        connection.execute(alter + sql.SQL("nothing"))
    elif identity == "i" and (index := connection.execute(_IDENTITY, names).fetchone()):
        connection.execute(alter + sql.SQL("using index {}").format(sql.Identifier(index[0])))


def _security(connection: Connection, parent: sql.Identifier, child: sql.Identifier) -> None:
    """Policies of the parent do not hold for who names the partition itself."""
    row = connection.execute(_OWNERS, (parent.as_string(connection), child.as_string(connection))).fetchone()
    assert row is not None  # noqa: S101
    same_owner, owner, enabled, forced, _ = row
    alter = sql.SQL("alter table {} ").format(child)
    for name, permissive, roles, command, using, check in connection.execute(
        _POLICIES, (parent.as_string(connection),)
    ).fetchall():
        connection.execute(
            sql.SQL("create policy {} on {} as {} for {} to {}{}{}").format(
                sql.Identifier(name),
                child,
                sql.SQL(permissive),
                sql.SQL(command),
                sql.SQL(", ").join(
                    sql.SQL("public") if role is None else sql.Identifier(role) for role in roles
                ),
                sql.SQL(f" using ({using})" if using else ""),
                sql.SQL(f" with check ({check})" if check else ""),
            )
        )
    if enabled:
        connection.execute(alter + sql.SQL("enable row level security"))
    if forced:
        connection.execute(alter + sql.SQL("force row level security"))
    if not same_owner:
        connection.execute(alter + sql.SQL("owner to {}").format(sql.SQL(owner)))


def revoke_all(connection: Connection, child: sql.Identifier) -> None:
    """Default privileges may have given some; the owner keeps what is his."""
    for (grantee,) in connection.execute(_GRANTEES, (child.as_string(connection),)).fetchall():
        connection.execute(sql.SQL("revoke all on {} from {}").format(child, sql.SQL(grantee)))


def privileges(connection: Connection, parent: sql.Identifier, child: sql.Identifier) -> None:
    """LIKE copies none: first nothing, then the parent's."""
    revoke_all(connection, child)
    for privilege, columns, grantee, grantable in connection.execute(
        _GRANTED, {"parent": parent.as_string(connection)}
    ).fetchall():
        connection.execute(
            sql.SQL("grant {} {} on {} to {} {}").format(
                sql.SQL(privilege),
                sql.SQL(columns),
                child,
                sql.SQL(grantee),
                sql.SQL("with grant option" if grantable else ""),
            )
        )
