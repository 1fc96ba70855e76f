"""The way back of an adoption: the first partition is the whole table again.

Rows that came into other partitions since are moved into it within the same transaction, under its lock; as
writers wait for that, there is a limit to their number, and who accepts the wait raises it.

What a kill leaves: the CHECK of an adoption that was not finished is there or not; else everything is one
transaction, and the table is as adopted, or as before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from psycopg import sql

from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, Patience
from bilten_orchestration.partitions.postgres.adoption import check
from bilten_orchestration.partitions.postgres.adoption import shape as shapes
from bilten_orchestration.partitions.postgres.adoption.forward import adopted
from bilten_orchestration.partitions.postgres.adoption.locks import lock_tables, retried
from bilten_orchestration.partitions.postgres.adoption.names import bounds_check, first_name
from bilten_orchestration.partitions.postgres.adoption.plan import kind
from bilten_orchestration.partitions.postgres.adoption.shape import Shape
from bilten_orchestration.partitions.postgres.adoption.swap import bare, rename_index
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

MOVED_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class BackReport:
    """`rows_to_move`: in partitions other than the first. `way`: what is undone."""

    table: str
    way: str
    rows_to_move: int
    partitions_dropped: tuple[str, ...]
    executed: bool
    locked_seconds: float | None = None


def back(
    settings: Settings,
    table: PartitionedTable,
    *,
    execute: bool = False,
    move_rows: int = MOVED_ROWS,
    progress: Progress = silent,
) -> BackReport:
    """Preview, or do it. Raises Refused where there is no way back, or more than `move_rows` rows to move."""
    with postgres.connect(
        settings.postgres, application_name="bilten partitions adopt", autocommit=True
    ) as connection:
        patience = Patience.of(settings.partitions)
        if not execute:
            return _back(connection, patience, table, execute=False, move_rows=move_rows, progress=progress)
        with advisory_lock(
            connection, LOCK, wait_seconds=settings.partitions.lock_wait_seconds, on_wait=progress
        ):
            return _back(connection, patience, table, execute=True, move_rows=move_rows, progress=progress)


def _back(
    connection: Connection,
    patience: Patience,
    table: PartitionedTable,
    *,
    execute: bool,
    move_rows: int,
    progress: Progress,
) -> BackReport:
    if kind(connection, table.name) == "r":
        row = connection.execute(
            "select exists (select from pg_constraint where conrelid = %s::regclass and conname = %s)",
            (table.name, bounds_check(table)),
        ).fetchone()
        if row != (True,):
            raise Refused(
                f"{table.name} was not adopted",
                expected="a table that is partitioned, or on its way there",
                found="an ordinary table",
                next=f"bilten partitions adopt {table.name}",
            )
        if execute:
            check.drop(connection, patience, table)
        return BackReport(table.name, "drop the CHECK of an adoption that was not finished", 0, (), execute)
    if not adopted(connection, table):
        raise Refused(
            f"{table.name} has no first partition to go back to",
            expected=f"{table.schema}.{first_name(table)} attached to it",
            found="another table: made partitioned from the beginning, or its first partition is gone",
            next="bilten partitions list",
        )
    others = _others(connection, table)
    rows = _rows(connection, others)
    _refuse_losses(connection, table, rows, move_rows)
    report = BackReport(
        table.name,
        f"{table.schema}.{first_name(table)} is {table.name} again; the other partitions are dropped",
        rows,
        tuple(others),
        execute,
    )
    if not execute:
        return report
    progress(f"{table.name}: back, {rows} rows to move under its lock")
    locked = retried(
        patience,
        f"the way back of {table.name}",
        lambda: _swap(connection, patience, table, move_rows),
    )
    return BackReport(report.table, report.way, rows, report.partitions_dropped, True, locked)


def _others(connection: Connection, table: PartitionedTable) -> list[str]:
    first = connection.execute(
        "select to_regclass(%s)::text", (f"{table.schema}.{first_name(table)}",)
    ).fetchone()
    assert first is not None  # noqa: S101
    return [p.name for p in attached(connection, table.name) if p.name != first[0]]


def _rows(connection: Connection, partitions: list[str]) -> int:
    total = 0
    for name in partitions:
        row = connection.execute(sql.SQL("select count(*) from {}").format(sql.SQL(name))).fetchone()
        total += int(row[0]) if row else 0
    return total


def _refuse_losses(connection: Connection, table: PartitionedTable, rows: int, move_rows: int) -> None:
    problems = []
    if rows > move_rows:
        problems.append(
            Problem(
                f"{table.name} has too many rows in later partitions to go back under its lock",
                expected=f"{move_rows} at most: nobody can write while they are moved",
                found=f"{rows} rows",
                next=f"bilten partitions adopt {table.name} --back --move-rows {rows} accepts that wait",
            )
        )
    gone = connection.execute(
        """
        select count(*) from system.partition_metadata
        where table_name = %s and state in ('detaching', 'detached', 'archived')
        """,
        (table.name,),
    ).fetchone()
    if gone is not None and gone[0]:
        problems.append(
            Problem(
                f"{table.name} has partitions that are detached or archived",
                expected="all of its rows attached, or dropped for good",
                found=f"{gone[0]} partitions",
                next=f"bilten partitions list; attach, restore or drop them before {table.name} goes back",
            )
        )
    if problems:
        raise Refused(problems)


def _swap(connection: Connection, patience: Patience, table: PartitionedTable, move_rows: int) -> float:
    name = sql.Identifier(table.schema, table.table)
    first = sql.Identifier(table.schema, first_name(table))
    leaving = sql.Identifier(table.schema, f"{table.table}_leaving")
    with connection.transaction():
        connection.execute("set local search_path = ''")
        connection.execute("set local timezone = 'UTC'")
        referenced = shapes.read(connection, table.name).referenced
        since = lock_tables(connection, patience, [table.name, *referenced])
        found = shapes.read(connection, table.name)
        others = _others(connection, table)
        rows = _rows(connection, others)
        _refuse_losses(connection, table, rows, move_rows)
        numbers = {s.name: shapes.counted(connection, s.name) for s in found.sequences if s.identity}
        pairs = [
            (parent, child)
            for parent, child in shapes.index_pairs(connection, table.name)
            if _of(connection, child, table)
        ]
        _let_go(connection, name, first, found)
        for old, renamed in ((name, f"{table.table}_leaving"), (first, table.table)):
            connection.execute(sql.SQL("alter table {} rename to {}").format(old, sql.Identifier(renamed)))
        for parent, child in pairs:
            rename_index(connection, parent, bare(connection, parent)[:57] + "_leave")
            rename_index(connection, child, bare(connection, parent))
        _move(connection, name, leaving, rows)
        shapes.give_triggers(connection, [t for t in found.triggers if t.each_row], name)
        shapes.give_sequences(connection, found.sequences, name)
        for sequence in found.sequences:
            if sequence.identity:
                shapes.give_identity(connection, sequence, numbers[sequence.name], name)
        shapes.give_publications(connection, found.publications, name)
        for definition in found.definitions:
            connection.execute(definition.encode())
        connection.execute(sql.SQL("comment on table {} is {}").format(name, sql.Literal(found.comment)))
        connection.execute(sql.SQL("drop table {}").format(leaving))
        _record(connection, table)
    return time.monotonic() - since


def _of(connection: Connection, index: str, table: PartitionedTable) -> bool:
    row = connection.execute(
        "select indrelid = %s::regclass from pg_index where indexrelid = %s::regclass",
        (f"{table.schema}.{first_name(table)}", index),
    ).fetchone()
    return row == (True,)


def _let_go(connection: Connection, name: sql.Identifier, first: sql.Identifier, found: Shape) -> None:
    """DETACH takes cloned triggers, and since PostgreSQL 17 the identity, away from the partition."""
    for publication, _ in found.publications:
        connection.execute(
            sql.SQL("alter publication {} drop table {}").format(sql.Identifier(publication), name)
        )
    connection.execute(sql.SQL("alter table {} detach partition {}").format(name, first))
    for sequence in found.sequences:
        if sequence.identity:
            connection.execute(
                sql.SQL("alter table {} alter {} drop identity").format(name, sql.Identifier(sequence.column))
            )


def _move(connection: Connection, name: sql.Identifier, leaving: sql.Identifier, rows: int) -> None:
    """Before triggers are there again: a row that moves is no new one."""
    if not rows:
        return
    columns = sql.SQL(", ").join(
        sql.Identifier(str(column))
        for (column,) in connection.execute(
            """
            select attname from pg_attribute
            where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''
            order by attnum
            """,
            (leaving.as_string(connection),),
        ).fetchall()
    )
    moved = connection.execute(
        sql.SQL("insert into {} ({}) overriding system value select {} from {}").format(
            name, columns, columns, leaving
        )
    ).rowcount
    if moved != rows:
        raise Mismatch(
            "rows were not moved one for one, and nothing was changed",
            expected=f"{rows} rows",
            found=f"{moved} rows",
            next="look for rules on the table",
        )


def _record(connection: Connection, table: PartitionedTable) -> None:
    connection.execute(
        "delete from system.partition_metadata where table_name = %s and partition_name = %s",
        (table.name, f"{table.schema}.{first_name(table)}"),
    )
    connection.execute(
        "update system.partition_metadata set state = 'dropped', rows = 0, bytes = 0, relation_oid = null"
        " where table_name = %s and state <> 'dropped'",
        (table.name,),
    )
