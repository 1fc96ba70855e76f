"""The one transaction of an adoption: a parent of the table's shape, two renames, ATTACH.

The parent is made before the locks are taken. What it was made from is read again under them, and a
difference begins the attempt anew.
"""

from __future__ import annotations

import time

from psycopg import sql

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.bounds import literal
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import Patience
from bilten_orchestration.partitions.postgres.adoption import shape as shapes
from bilten_orchestration.partitions.postgres.adoption.locks import ChangedMeanwhile, lock_tables
from bilten_orchestration.partitions.postgres.adoption.names import bounds_check, first_name
from bilten_orchestration.partitions.postgres.adoption.obstacles import obstacles
from bilten_orchestration.partitions.postgres.adoption.plan import AdoptionPlan
from bilten_orchestration.partitions.postgres.adoption.shape import Shape
from bilten_orchestration.partitions.postgres.likeness import privileges
from bilten_orchestration.stores.postgres import Connection


def swap(
    connection: Connection, patience: Patience, table: PartitionedTable, chosen: AdoptionPlan, run: str | None
) -> float:
    name = sql.Identifier(table.schema, table.table)
    first = sql.Identifier(table.schema, first_name(table))
    new = f"{table.table}_new"
    with connection.transaction():
        connection.execute("set local search_path = ''")
        found = shapes.read(connection, table.name)
        _make_parent(connection, table, sql.Identifier(table.schema, new), found)
        since = lock_tables(connection, patience, [table.name, *found.referenced])
        if shapes.read(connection, table.name) != found or obstacles(connection, table):
            raise ChangedMeanwhile(f"{table.name} was changed while its parent was made")
        numbers = {s.name: shapes.counted(connection, s.name) for s in found.sequences if s.identity}
        _let_go(connection, name, found)
        for old, renamed in ((name, first_name(table)), (sql.Identifier(table.schema, new), table.table)):
            connection.execute(sql.SQL("alter table {} rename to {}").format(old, sql.Identifier(renamed)))
        _attach(connection, table, chosen, found)
        _name_indexes(connection, table.name, found)
        shapes.give_triggers(connection, found.triggers, name)
        shapes.give_sequences(connection, found.sequences, name)
        for sequence in found.sequences:
            if sequence.identity:
                shapes.give_identity(connection, sequence, numbers[sequence.name], name)
        shapes.give_publications(connection, found.publications, name)
        replica_identity(connection, name, found)
        for definition in found.definitions:
            connection.execute(definition.encode())
        connection.execute(
            sql.SQL("comment on table {} is {}").format(
                first,
                sql.Literal(f"{table.name} until {chosen.to_at:%F} (UTC), as it was before partitioning"),
            )
        )
        metadata.attached(
            connection,
            table.name,
            chosen.first,
            chosen.from_at,
            chosen.to_at,
            rows=chosen.rows,
            run=run,
        )
    return time.monotonic() - since


def _make_parent(connection: Connection, table: PartitionedTable, new: sql.Identifier, found: Shape) -> None:
    parts = {
        "new": new,
        "old": sql.Identifier(table.schema, table.table),
        "column": sql.Identifier(table.column),
        "check": sql.Identifier(bounds_check(table)),
        "owner": sql.Identifier(found.owner),
        "comment": sql.Literal(found.comment),
    }
    for statement in (
        "create table {new} (like {old} including all excluding identity) partition by range ({column})",
        "alter table {new} drop constraint {check}",
        "alter table {new} owner to {owner}",
        "comment on table {new} is {comment}",
    ):
        connection.execute(sql.SQL(statement).format(**parts))
    privileges(connection, sql.Identifier(table.schema, table.table), new)


def _let_go(connection: Connection, name: sql.Identifier, found: Shape) -> None:
    """What a table has once, and its parent is to have. Row triggers come back as clones of the parent's."""
    for trigger in found.triggers:
        if trigger.each_row:
            connection.execute(sql.SQL("drop trigger {} on {}").format(sql.Identifier(trigger.name), name))
    for sequence in found.sequences:
        if sequence.identity:
            connection.execute(
                sql.SQL("alter table {} alter {} drop identity").format(name, sql.Identifier(sequence.column))
            )
    for publication, _ in found.publications:
        connection.execute(
            sql.SQL("alter publication {} drop table {}").format(sql.Identifier(publication), name)
        )


def _attach(connection: Connection, table: PartitionedTable, chosen: AdoptionPlan, found: Shape) -> None:
    parts = {
        "parent": sql.Identifier(table.schema, table.table),
        "first": sql.Identifier(table.schema, first_name(table)),
        "low": sql.SQL(literal(chosen.from_at)),
        "high": sql.SQL(literal(chosen.to_at)),
        "check": sql.Identifier(bounds_check(table)),
    }
    for key, definition in found.foreign_keys:
        connection.execute(
            sql.SQL("alter table {parent} add constraint {key} {definition}").format(
                **parts, key=sql.Identifier(key), definition=sql.SQL(definition)
            )
        )
    for statement in (
        "alter table {parent} attach partition {first} for values from ({low}) to ({high})",
        "alter table {first} drop constraint {check}",
    ):
        connection.execute(sql.SQL(statement).format(**parts))


def _name_indexes(connection: Connection, parent: str, found: Shape) -> None:
    """The parent's get the names that the table's had: ON CONFLICT ON CONSTRAINT names them."""
    pairs = shapes.index_pairs(connection, parent)
    if len(pairs) != len(found.indexes):
        raise Mismatch(
            f"the indexes of {parent} are not those that the table had",
            expected=f"{len(found.indexes)}, each attached to one of the parent's",
            found=f"{len(pairs)} attached",
            next="nothing was changed; compare their definitions",
        )
    for of_parent, of_child in pairs:
        rename_index(connection, of_child, f"{bare(connection, of_child)}"[:57] + "_first")
        rename_index(connection, of_parent, bare(connection, of_child))


def bare(connection: Connection, qualified: str) -> str:
    row = connection.execute("select (parse_ident(%s))[2]", (qualified,)).fetchone()
    assert row is not None  # noqa: S101
    return str(row[0])


def rename_index(connection: Connection, qualified: str, name: str) -> None:
    connection.execute(
        sql.SQL("alter index {} rename to {}").format(sql.SQL(qualified), sql.Identifier(name))
    )


def replica_identity(connection: Connection, name: sql.Identifier, found: Shape) -> None:
    wanted = {"f": "full", "n": "nothing"}.get(found.replica_identity)
    if wanted is not None:
        connection.execute(sql.SQL("alter table {} replica identity {}").format(name, sql.SQL(wanted)))
    elif found.replica_index is not None:
        connection.execute(
            sql.SQL("alter table {} replica identity using index {}").format(
                name, sql.Identifier(found.replica_index)
            )
        )
