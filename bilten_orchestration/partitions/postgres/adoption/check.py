"""The CHECK of the bounds, which makes ATTACH read nothing: NOT VALID, then validated beside writers.

Its comment has the bounds, by which the next run knows what was begun.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from bilten_orchestration.errors import Refused, TransientError
from bilten_orchestration.partitions.bounds import literal
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import Patience
from bilten_orchestration.partitions.postgres.adoption.locks import retried
from bilten_orchestration.partitions.postgres.adoption.names import bounds_check
from bilten_orchestration.partitions.postgres.adoption.plan import AdoptionPlan
from bilten_orchestration.stores.postgres import Connection


def add(connection: Connection, patience: Patience, table: PartitionedTable, chosen: AdoptionPlan) -> None:
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


def validate(connection: Connection, patience: Patience, table: PartitionedTable) -> None:
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
        drop(connection, patience, table)
        raise TransientError(
            f"{table.name} got rows outside the bounds while they were chosen; the CHECK is dropped again",
            expected="no row older than the oldest, none from the far future",
            found=str(error.__cause__).strip().splitlines()[0],
            next="run it again: the bounds are chosen anew",
        ) from None


def drop(connection: Connection, patience: Patience, table: PartitionedTable) -> None:
    def once() -> None:
        with connection.transaction():
            connection.execute(f"set local lock_timeout = '{patience.lock_timeout}'")
            connection.execute(
                sql.SQL("alter table {} drop constraint if exists {}").format(
                    sql.Identifier(table.schema, table.table), sql.Identifier(bounds_check(table))
                )
            )

    retried(patience, f"dropping the CHECK of {table.name}", once)
