"""Connections that see one snapshot, and keep what they see from being dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql

from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.postgres.digests import Table
from bilten_orchestration.stores.postgres import Connection

NAME = "bilten drill"
_LOCK_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """`lsn` is the point. Whoever is at work then, unseen, has written nothing below `since`."""

    lsn: str
    how: Literal["slot", "locks"]
    since: str
    lock: tuple[float, str | None] = (0.0, None)


class Moved(Exception):
    """The snapshot cannot read everything any more."""


AGAIN = (
    Moved,
    psycopg.errors.QueryCanceled,
    psycopg.errors.UndefinedTable,
    # the snapshot: who exported it was ended, for we were too slow to see it
    psycopg.errors.UndefinedObject,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


def see(readers: Sequence[Connection], snapshot: str, tables: Sequence[Table]) -> None:
    """Every reader sees it, and what it reads stays from now on."""
    for reader in readers:
        reader.execute("begin isolation level repeatable read read only")
        reader.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
        # at once in all of them: DDL that waits for the first would be waited for by the second
        _lock(reader, tables, "access share", _LOCK_MILLISECONDS)


def whole(reader: Connection, locked: Sequence[Table]) -> tuple[Table, ...]:
    """What there is by the snapshot. Raises Moved when something went in before it was locked."""
    found = digests.tables(reader)
    if moved := [table.label for table in found if table.moved]:
        raise Moved(f"{', '.join(moved[:3])} was truncated or rewritten meanwhile")
    if {table.label for table in found} != {table.label for table in locked}:
        raise Moved("a table was made or dropped meanwhile")
    return found


def _lock(connection: Connection, tables: Sequence[Table], mode: str, milliseconds: int) -> None:
    """All in one statement, which takes no longer: lock_timeout would count for each table anew."""
    if not tables:
        return
    names = sql.SQL(", ").join(sql.SQL("only {}").format(table.identifier) for table in tables)
    connection.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(milliseconds)))
    connection.execute(sql.SQL("lock table {} in {} mode").format(names, sql.SQL(mode)))
    connection.execute("set local statement_timeout = 0")


def position(connection: Connection) -> str:
    """Where the server writes its next record of WAL."""
    row = connection.execute("select pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None  # noqa: S101
    return str(row[0])


def roll_back(connections: Sequence[Connection]) -> None:
    for connection in connections:
        with contextlib.suppress(psycopg.Error):
            connection.execute("rollback")


def words(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
