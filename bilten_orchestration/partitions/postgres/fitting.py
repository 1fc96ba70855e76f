"""Whether the rows of an archive fit into the table as it is today, and what has to be done for that."""

from __future__ import annotations

import psycopg
from psycopg import sql

from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import Patience, retried
from bilten_orchestration.stores.postgres import Connection

_COLUMNS = """
    select attname, format_type(atttypid, atttypmod), attgenerated <> '', attnotnull, atthasdef
    from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum
"""
_FOREIGN_KEYS = """
    select conname, pg_get_constraintdef(oid), confrelid::regclass::text
    from pg_constraint where contype = 'f' and conrelid = %s::regclass and conparentid = 0 order by conname
"""


def compare(connection: Connection, table: PartitionedTable, archive: Archive) -> tuple[list[str], list[str]]:
    """Why the columns forbid that it is attached, and what is worth knowing where they do not.

    The connection is pinned: types are written as they were in the archive."""
    here = {
        name: (type_, generated, not_null, default)
        for name, type_, generated, not_null, default in connection.execute(
            _COLUMNS, (table.name,)
        ).fetchall()
    }
    reasons, notes = [], []
    for column in archive.columns:
        if column.name not in here:
            reasons.append(f"the table has no column {column.name} any more")
        elif here[column.name][0] != column.type:
            reasons.append(f"{column.name} was {column.type}, and is {here[column.name][0]} now")
    old = {column.name for column in archive.columns}
    for name, (_, computed, not_null, default) in here.items():
        if name in old or computed:
            continue
        if not_null and not default:
            reasons.append(f"the newer column {name} takes no NULL, and has no default")
        else:
            notes.append(f"the newer column {name} has {'its default' if default else 'NULL'} in these rows")
    return reasons, notes


def generated(connection: Connection, table: PartitionedTable) -> frozenset[str]:
    """Columns that the table computes itself."""
    rows = connection.execute(_COLUMNS, (table.name,)).fetchall()
    return frozenset(name for name, _, computed, _, _ in rows if computed)


def add_foreign_keys(
    connection: Connection, table: PartitionedTable, staged: sql.Identifier, patience: Patience
) -> None:
    """Those of the parent, so that ATTACH finds them valid: NOT VALID first, which locks the referenced table
    for a moment, then VALIDATE, which lets writers in. Raises psycopg.errors.ForeignKeyViolation."""
    for name, definition, _ in connection.execute(_FOREIGN_KEYS, (table.name,)).fetchall():
        add = sql.SQL("alter table {} add constraint {} {} not valid").format(
            staged, sql.Identifier(name), sql.SQL(definition)
        )

        def once(statement: sql.Composed = add) -> None:
            with connection.transaction():
                connection.execute(
                    sql.SQL("set local lock_timeout = {}").format(sql.Literal(patience.lock_timeout))
                )
                connection.execute(statement)

        retried(patience, f"the foreign key {name} could not be added to the restored rows", once)
        connection.execute(
            sql.SQL("alter table {} validate constraint {}").format(staged, sql.Identifier(name))
        )


def column_definitions(connection: Connection, archive: Archive) -> tuple[sql.Composed, list[str]]:
    """Of a plain table with the columns as they were archived; those whose type is gone as text."""
    parts, notes = [], []
    for column in archive.columns:
        row = connection.execute("select to_regtype(%s) is not null", (column.type,)).fetchone()
        known = row is not None and bool(row[0])
        if not known:
            notes.append(f"{column.name} is text: the type {column.type} is gone")
        parts.append(
            sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type if known else "text"))
        )
    return sql.SQL(", ").join(parts), notes


def words(error: psycopg.Error) -> str:
    """One line, with the constraint where there is one."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{error.diag.constraint_name}: {said}" if error.diag.constraint_name else said
