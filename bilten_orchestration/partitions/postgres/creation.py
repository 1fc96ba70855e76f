"""Makes one partition: one short transaction, in which everything that takes time comes before ATTACH.

    a table like the parent (likeness.py), a validated CHECK of the bounds, comment
    ATTACH, which scans nothing because of the CHECK, and nothing is in it
    the CHECK dropped again (the partition's own constraint says the same), replica identity
    the row in system.partition_metadata

A kill leaves the partition whole or not there; the next run makes what is missing.

ATTACH takes SHARE UPDATE EXCLUSIVE on the parent and, for foreign keys, SHARE ROW EXCLUSIVE on the tables
referenced: locking.py says how they are asked for. No `snapshot` lock is needed: what is new is in nobody's
snapshot.
"""

from __future__ import annotations

from datetime import datetime

from psycopg import sql

from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.bounds import Period, literal
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import Patience, retried
from bilten_orchestration.partitions.postgres import likeness
from bilten_orchestration.stores.postgres import Connection


def make(
    connection: Connection, table: PartitionedTable, period: Period, patience: Patience, run: str | None
) -> str:
    """Returns schema.name. Raises TransientError when a lock was not to be had, psycopg.Error."""
    name = f"{table.table}_{period.suffix}"
    what = f"the {period.interval} {period} of {table.name} could not be attached"
    retried(patience, what, lambda: _once(connection, table, period, name, patience, run))
    return f"{table.schema}.{name}"


def _once(
    connection: Connection,
    table: PartitionedTable,
    period: Period,
    name: str,
    patience: Patience,
    run: str | None,
) -> None:
    child = sql.Identifier(table.schema, name)
    parent = sql.Identifier(table.schema, table.table)
    low, high = period.start, period.end
    with connection.transaction():
        connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(patience.lock_timeout)))
        likeness.create_like(connection, parent, child, table.storage)
        check = add_check(connection, table, child, name, low=low, high=high)
        comment = f"{table.name} of {period} (UTC)"
        connection.execute(sql.SQL("comment on table {} is {}").format(child, sql.Literal(comment)))
        connection.execute(
            sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
                parent, child, sql.SQL(literal(low)), sql.SQL(literal(high))
            )
        )
        connection.execute(sql.SQL("alter table {} drop constraint {}").format(child, check))
        likeness.finish(connection, parent, child)
        metadata.attached(connection, table.name, f"{table.schema}.{name}", low, high, rows=0, run=run)


def add_check(
    connection: Connection,
    table: PartitionedTable,
    child: sql.Identifier,
    name: str,
    *,
    low: datetime | None,
    high: datetime | None,
) -> sql.Identifier:
    """A validated CHECK of the bounds, so that ATTACH scans nothing. Returns its name."""
    check = bounds_check(name)
    column = sql.Identifier(table.column)
    conditions = [sql.SQL("{} is not null").format(column)]
    if low is not None:
        conditions.append(sql.SQL("{} >= {}").format(column, sql.SQL(literal(low))))
    if high is not None:
        conditions.append(sql.SQL("{} < {}").format(column, sql.SQL(literal(high))))
    connection.execute(
        sql.SQL("alter table {} add constraint {} check ({})").format(
            child, check, sql.SQL(" and ").join(conditions)
        )
    )
    return check


def bounds_check(name: str) -> sql.Identifier:
    """The name of that CHECK; `name` of the table without its schema."""
    return sql.Identifier(f"{name}_bounds")
