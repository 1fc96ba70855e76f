"""A table becomes the first partition of a new parent of its name.

What a kill leaves, by the step it comes in:

    1. before the CHECK            nothing
    2. CHECK NOT VALID             the table with the CHECK, which holds for new rows; its comment has the
                                   bounds. The next run goes on with them, `--back` drops it. Left alone, it
                                   refuses rows from its upper bound on: drift.py tells of it.
    3. VALIDATE                    the same; validating begins again
    4. the swap                    one transaction: the table as in 3, or adopted
    5. before the months ahead     adopted, writers have the months of the first partition; the next run, and
                                   every apply, makes the rest

No row is copied or deleted, so none can be lost or doubled; writers wait for the swap, for at most
one lock timeout while its locks are asked for and then for as long as it takes to rename, which reads no row.
A statement that waits finds the new parent under the name it asked for.

The parent is made before the locks are taken. What it was made from is read again under them, and a
difference begins the attempt anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import psycopg
from psycopg import sql

from bilten_orchestration.errors import Mismatch, Refused, TransientError
from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.bounds import literal
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, Patience
from bilten_orchestration.partitions.locking import retried as waited
from bilten_orchestration.partitions.postgres.adoption import shape as shapes
from bilten_orchestration.partitions.postgres.adoption.plan import (
    AdoptionPlan,
    bounds_check,
    first_name,
    kind,
    obstacles,
    plan,
)
from bilten_orchestration.partitions.postgres.adoption.shape import Shape
from bilten_orchestration.partitions.postgres.likeness import privileges
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

T = TypeVar("T")


class ChangedMeanwhile(psycopg.errors.LockNotAvailable):
    """Somebody changed the table between reading its shape and locking it: tried again, as for a lock."""


@dataclass(frozen=True, slots=True)
class AdoptionReport:
    """`executed`: whether anything was done. `locked_seconds`: how long writers were kept out, at most."""

    plan: AdoptionPlan
    executed: bool
    locked_seconds: float | None = None


def adopt(
    settings: Settings,
    table: PartitionedTable,
    *,
    execute: bool = False,
    now: datetime | None = None,
    run: str | None = None,
    progress: Progress = silent,
) -> AdoptionReport:
    """Preview, or do it; the months ahead are made by the caller (`ensure_months`), when it was done.

    Raises Refused with all that stands in the way, LockHeld, TransientError when a lock was not to be had.
    """
    with postgres.connect(
        settings.postgres, application_name="bilten partitions adopt", autocommit=True
    ) as connection:
        if not execute:
            return AdoptionReport(plan(connection, table, now=now), executed=False)
        patience = Patience.of(settings.partitions)
        with advisory_lock(
            connection, LOCK, wait_seconds=settings.partitions.lock_wait_seconds, on_wait=progress
        ):
            chosen = plan(connection, table, now=now)
            if chosen.state == "plain":
                progress(f"{table.name}: CHECK from {chosen.from_at:%F} to before {chosen.to_at:%F}")
                retried(
                    patience,
                    f"the CHECK on {table.name}",
                    lambda: _check(connection, patience, table, chosen),
                )
            if chosen.state != "valid":
                progress(f"{table.name}: validating, about {chosen.rows} rows")
                _validate(connection, patience, table)
            locked = retried(
                patience, f"the swap of {table.name}", lambda: _swap(connection, patience, table, chosen, run)
            )
            progress(f"{table.name}: partitioned; its rows are in {chosen.first}")
    return AdoptionReport(chosen, executed=True, locked_seconds=locked)


def retried(patience: Patience, what: str, attempt: Callable[[], T]) -> T:
    """As in locking.py; what PostgreSQL refuses otherwise is told as that, with nothing changed."""
    try:
        return waited(patience, f"{what} had to wait for others", attempt)
    except psycopg.OperationalError as error:
        raise TransientError(
            f"{what} was cut off",
            expected="PostgreSQL answers until it is done",
            found=str(error).strip().splitlines()[0],
            next="run it again: it goes on with what it finds",
        ) from None
    except psycopg.Error as error:
        raise Refused(
            f"{what} was refused by PostgreSQL, and nothing was changed",
            expected="what hangs on the table can be made again for another one of its shape",
            found=str(error).strip(),
            next="take away what it names, then run it again",
        ) from error


def lock_tables(connection: Connection, patience: Patience, tables: list[str]) -> float:
    """ACCESS EXCLUSIVE on all of them, within one lock timeout altogether; returns since when (monotonic).

    Changing a foreign key locks the table that it refers to as well.
    """
    each = max(patience.lock_timeout_milliseconds // len(tables), 10)
    connection.execute(f"set local lock_timeout = '{each}ms'")
    since = time.monotonic()
    for name in tables:
        connection.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(name)))
    return since


def _check(connection: Connection, patience: Patience, table: PartitionedTable, chosen: AdoptionPlan) -> None:
    with connection.transaction():
        connection.execute(f"set local lock_timeout = '{patience.lock_timeout}'")
        parts = {
            "table": sql.Identifier(table.schema, table.table),
            "check": sql.Identifier(bounds_check(table)),
            "column": sql.Identifier(table.column),
            "low": sql.SQL(literal(chosen.from_at)),
            "high": sql.SQL(literal(chosen.to_at)),
            "bounds": sql.Literal(f"{chosen.from_at.isoformat()} to {chosen.to_at.isoformat()}"),
        }
        connection.execute(
            sql.SQL(
                "alter table {table} add constraint {check} check"
                " ({column} is not null and {column} >= {low} and {column} < {high}) not valid"
            ).format(**parts)
        )
        connection.execute(sql.SQL("comment on constraint {check} on {table} is {bounds}").format(**parts))


def _validate(connection: Connection, patience: Patience, table: PartitionedTable) -> None:
    """SHARE UPDATE EXCLUSIVE: beside writers, however long it takes."""

    def once() -> None:
        with connection.transaction():
            connection.execute(f"set local lock_timeout = '{patience.lock_timeout}'")
            connection.execute(
                sql.SQL("alter table {} validate constraint {}").format(
                    sql.Identifier(table.schema, table.table), sql.Identifier(bounds_check(table))
                )
            )

    try:
        retried(patience, f"validating the CHECK of {table.name}", once)
    except Refused as error:
        if not isinstance(error.__cause__, psycopg.errors.CheckViolation):
            raise
        drop_check(connection, patience, table)
        raise TransientError(
            f"{table.name} got rows outside the bounds while they were chosen; the CHECK is dropped again",
            expected="no row older than the oldest, none from the far future",
            found=str(error.__cause__).strip().splitlines()[0],
            next="run it again: the bounds are chosen anew",
        ) from None


def drop_check(connection: Connection, patience: Patience, table: PartitionedTable) -> None:
    def once() -> None:
        with connection.transaction():
            connection.execute(f"set local lock_timeout = '{patience.lock_timeout}'")
            connection.execute(
                sql.SQL("alter table {} drop constraint if exists {}").format(
                    sql.Identifier(table.schema, table.table), sql.Identifier(bounds_check(table))
                )
            )

    retried(patience, f"dropping the CHECK of {table.name}", once)


def _swap(
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


def adopted(connection: Connection, table: PartitionedTable) -> bool:
    """Whether it is partitioned, and its first partition is the table it was."""
    row = connection.execute(
        "select exists (select from pg_inherits where inhparent = to_regclass(%s)"
        " and inhrelid = to_regclass(%s))",
        (table.name, f"{table.schema}.{first_name(table)}"),
    ).fetchone()
    return kind(connection, table.name) == "p" and row == (True,)
