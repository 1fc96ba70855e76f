"""Rows copied back, inside the transaction that compared them.

The setting bilten.recovery tells triggers what this is (docs/adr/0016): columns that are set once may go
back, capacity is not logged anew, and the audit log says RECOVER. Everything else holds as for anybody: sync
marks rise, updated_at is that of now, deletes leave tombstones, checks and foreign keys are checked.

The order of writing: what is to go goes first, children before parents, for a row that comes back may hold
the same unique value (a DELETE with an INSERT of its successor is taken back so). Rows that something else
still points at go last, when that was put back. Then parents before children, within a table updates before
inserts for the same reason; where a table points at itself inserts come first, for an updated row may point
at them.

A kill before the commit leaves nothing; the row in system.recoveries, written in the same transaction, proves
that it was done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

import psycopg
from psycopg import sql

from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.recovery.comparison import Staged
from bilten_orchestration.recovery.tables import ForeignKey
from bilten_orchestration.stores.postgres import Connection


def apply(
    connection: Connection,
    staged: Sequence[Staged],
    keys: Sequence[ForeignKey],
    recovery: UUID,
    transaction: int,
    changes: Mapping[str, object],
) -> None:
    """`staged` with parents first, `keys` all that begin or end at these tables. The caller commits.

    Raises Refused when a constraint or a trigger of the application does not allow it, Mismatch when a row
    is not what it was to be; nothing is changed then.
    """
    try:
        connection.execute("set local bilten.recovery = 'on'")
        late = [each for each in reversed(staged) if not _delete_unless_pointed_at(connection, each, keys)]
        for each in staged:
            steps = (_update, _insert)
            for step in reversed(steps) if _points_at_itself(each, keys) else steps:
                step(connection, each)
        for each in late:
            _delete(connection, each)
        connection.execute("set constraints all immediate")
    except psycopg.errors.IntegrityError as error:
        raise _not_allowed(error) from None
    except psycopg.errors.RaiseException as error:
        raise _not_allowed(error) from None
    for each in staged:
        _prove(connection, each)
        _clear_tombstones(connection, each)
        _audit(connection, each)
    connection.execute(
        "insert into system.recoveries (id, bad_transaction, changes) values (%s, %s::text::xid8, %s)",
        (recovery, str(transaction), json.dumps(changes)),
    )
    connection.execute(
        "insert into audit.audit_log (actor, schema_name, table_name, row_key, action, after)"
        " values (session_user, 'system', 'recoveries', %s, 'RECOVER', %s)",
        (str(recovery), json.dumps({"bad_transaction": str(transaction), "changes": changes})),
    )


def _points_at_itself(staged: Staged, keys: Sequence[ForeignKey]) -> bool:
    return any(key.child == key.parent == staged.table.name for key in keys)


def _delete_unless_pointed_at(connection: Connection, staged: Staged, keys: Sequence[ForeignKey]) -> bool:
    """Delete what is to go of a table, whose children's turn was before; nothing, and False, where a row that
    stays for now points at one of these."""
    table = staged.table
    for key in keys:
        if key.parent != table.name:
            continue
        match = sql.SQL(" and ").join(
            sql.SQL("c.{} = l.{}").format(sql.Identifier(column), sql.Identifier(referenced))
            for column, referenced in zip(key.columns, key.referenced, strict=True)
        )
        stays: sql.Composable = sql.SQL("true")
        if key.child == table.name:
            stays = sql.SQL("not exists (select from {} q where {} and q.action = 'delete')").format(
                staged.plan, table.joined("q", "c")
            )
        row = connection.execute(
            sql.SQL(
                "select exists (select from {plan} p join {now} l on {l_is_p} join {child} c on {match}"
                " where p.action = 'delete' and {stays})"
            ).format(
                plan=staged.plan,
                now=table.name_sql,
                l_is_p=table.joined("l", "p"),
                child=sql.Identifier(*key.child.split(".", 1)),
                match=match,
                stays=stays,
            )
        ).fetchone()
        assert row is not None  # noqa: S101
        if row[0]:
            return False
    _delete(connection, staged)
    return True


def _insert(connection: Connection, staged: Staged) -> None:
    table = staged.table
    columns = [column for column in table.columns if column != "sync_xid"]
    connection.execute(
        sql.SQL(
            "insert into {} ({}) overriding system value select {} from {} b join {} p on {}"
            " where p.action = 'insert'"
        ).format(
            table.name_sql,
            _list(columns),
            _list(columns, "b"),
            staged.before,
            staged.plan,
            table.joined("b", "p"),
        )
    )


def _update(connection: Connection, staged: Staged) -> None:
    """One statement each, so that triggers which look at other rows see all of them."""
    table = staged.table
    columns = [column for column in table.content if column not in table.key]
    if not columns:
        return
    back = [sql.SQL("{} = {}").format(sql.Identifier(c), sql.Identifier("b", c)) for c in columns]
    merged = [
        sql.SQL("{} = case when {} then {} else {} end").format(
            sql.Identifier(c), table.same("l", "a", [c]), sql.Identifier("b", c), sql.Identifier("l", c)
        )
        for c in columns
    ]
    for action, assignments in (("update", back), ("merge", merged)):
        connection.execute(
            sql.SQL(
                "update {now} l set {assignments} from {plan} p join {before} b on {b_is_p}"
                " left join {after} a on {a_is_p} where {l_is_p} and p.action = {action}"
            ).format(
                now=table.name_sql,
                assignments=sql.SQL(", ").join(assignments),
                plan=staged.plan,
                before=staged.before,
                after=staged.after,
                b_is_p=table.joined("b", "p"),
                a_is_p=table.joined("a", "p"),
                l_is_p=table.joined("l", "p"),
                action=sql.Literal(action),
            )
        )


def _delete(connection: Connection, staged: Staged) -> None:
    connection.execute(
        sql.SQL("delete from {} l using {} p where {} and p.action = 'delete'").format(
            staged.table.name_sql, staged.plan, staged.table.joined("l", "p")
        )
    )


def _prove(connection: Connection, staged: Staged) -> None:
    """Every row is what it was to be: merged ones hold, in what the transaction changed, what was before."""
    table = staged.table
    merged = sql.SQL(" and ").join(
        sql.SQL("({} or {})").format(table.same("l", "b", [column]), table.same("a", "b", [column]))
        for column in table.content
    )
    row = connection.execute(
        sql.SQL(
            "select count(*) filter"
            " (where p.action in ('insert', 'update') and (l.ctid is null or not ({same}))"
            " or p.action = 'merge' and (l.ctid is null or not ({merged}))),"
            " count(*) filter (where p.action = 'delete' and l.ctid is not null)"
            " from {plan} p left join {now} l on {l_is_p} left join {before} b on {b_is_p}"
            " left join {after} a on {a_is_p}"
        ).format(
            merged=merged,
            after=staged.after,
            a_is_p=table.joined("a", "p"),
            same=table.same("l", "b", table.content),
            plan=staged.plan,
            now=table.name_sql,
            before=staged.before,
            l_is_p=table.joined("l", "p"),
            b_is_p=table.joined("b", "p"),
        )
    ).fetchone()
    if row is None or row != (0, 0):
        raise Mismatch(
            f"rows of {table.name} did not become what they were; nothing was changed",
            expected="every row as before the transaction",
            found=f"{row and row[0]} others, {row and row[1]} that stayed",
            next="look for triggers of the table that change what is written",
        )


def _clear_tombstones(connection: Connection, staged: Staged) -> None:
    """The sync sends a row that is there again with a new mark; its tombstone would only be read in vain."""
    connection.execute(
        sql.SQL(
            "delete from system.deleted_rows d using {} p where d.table_name = {} and d.row_key = {}"
            " and p.action = 'insert'"
        ).format(staged.plan, sql.Literal(staged.table.name), staged.table.key_text("p"))
    )


def _audit(connection: Connection, staged: Staged) -> None:
    """Rows that are there again: no trigger writes of inserts. Of tables that are audited at all."""
    table = staged.table
    row = connection.execute(
        "select exists (select from pg_trigger where tgrelid = %s::regclass and tgname = 'audit_delete')",
        (f'"{table.schema}"."{table.relation}"',),
    ).fetchone()
    if row is None or not row[0]:
        return
    connection.execute(
        sql.SQL(
            "insert into audit.audit_log (actor, schema_name, table_name, row_key, action, after)"
            " select session_user, {}, {}, {}, 'RECOVER', audit.visible(to_jsonb(l))"
            " from {} l join {} p on {} where p.action = 'insert'"
        ).format(
            sql.Literal(table.schema),
            sql.Literal(table.relation),
            table.key_text("p"),
            table.name_sql,
            staged.plan,
            table.joined("l", "p"),
        )
    )


def _not_allowed(error: psycopg.Error) -> Refused:
    # its detail and its context may hold what is in a row
    place = ".".join(part for part in (error.diag.schema_name, error.diag.table_name) if part)
    return Refused(
        "the rows cannot be copied back; nothing was changed",
        expected="what constraints and triggers of the application allow",
        found=f"{place + ': ' if place else ''}{error.diag.message_primary}",
        next="--changed-since keep leaves rows that were changed since; take later transactions back first",
    )


def _list(columns: Sequence[str], alias: str = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, c) if alias else sql.Identifier(c) for c in columns)
