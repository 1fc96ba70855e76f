"""The point by locking every table against writes for a moment."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence

import psycopg
from psycopg import sql

from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.postgres import readers as shared
from bilten_orchestration.drills.postgres.digests import Table
from bilten_orchestration.drills.postgres.readers import NAME, Found
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

_PAUSE_SECONDS = (0.3, 1.0)


class _Busy(Exception):
    """A writer did not let go of a table in time."""

    def __init__(self, table: str | None) -> None:
        super().__init__(f"{table or 'a table'} is being written to")
        self.table = table


def find(
    settings: Settings, readers: Sequence[Connection], progress: Progress
) -> tuple[Found, tuple[Table, ...]] | None:
    attempts = settings.drills.share_lock_attempts
    waited_for: list[str] = []
    for attempt in range(1, attempts + 1):
        # a writer that waits for a table that we have does not give up the one that we wait for. So what was
        # waited for comes first in the next attempt: in the end tables come in the order that writers take
        wanted = sorted(digests.tables(readers[0]), key=lambda table: _place(table.label, waited_for))
        try:
            said = _locked(settings, readers, wanted)
            tables = shared.whole(readers[0], wanted)
        except (*shared.AGAIN, _Busy) as error:
            shared.roll_back(readers)
            if isinstance(error, _Busy) and error.table is not None:
                waited_for = [error.table, *(label for label in waited_for if label != error.table)]
            if attempt % 10 == 1:
                progress(f"locks, attempt {attempt} of {attempts}: {shared.words(error)}")
            time.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311
        else:
            progress(f"writers were locked out for {said.lock[0] * 1000:.0f} ms")
            return said, tables
    return None


def _locked(settings: Settings, readers: Sequence[Connection], tables: Sequence[Table]) -> Found:
    milliseconds = settings.drills.share_lock_milliseconds
    with postgres.connect(settings.postgres, application_name=f"{NAME} lock", autocommit=True) as connection:
        digests.pin(connection)
        row = connection.execute(
            # whatever becomes of us, no writer waits for longer
            "select set_config('idle_in_transaction_session_timeout', %s, false),"
            " has_function_privilege('pg_create_restore_point(text)', 'execute')",
            (f"{milliseconds}ms",),
        ).fetchone()
        name = f"bilten_drill_{time.time_ns()}" if row is not None and row[1] else None
        # in READ COMMITTED what is exported is of its own statement: one that begins when all is locked. The
        # block that locks has a snapshot too, which would be the transaction's in REPEATABLE READ
        connection.execute("begin isolation level read committed")
        _lock_out(connection, tables, milliseconds)
        held = time.monotonic()
        exported = connection.execute("select pg_export_snapshot()").fetchone()
        assert exported is not None  # noqa: S101
        shared.see(readers, exported[0], tables)
        # a writer's commit lies in WAL before its locks are gone: all that the snapshot sees is below this
        position = connection.execute(
            "select pg_create_restore_point(%s)::text"
            if name
            else "select pg_current_wal_insert_lsn()::text",
            (name,) if name else None,
        ).fetchone()
        connection.execute("commit")
        assert position is not None  # noqa: S101
        # who is at work has written to none of these tables: a row's lock lasts as long as its transaction
        return Found(position[0], "locks", position[0], (time.monotonic() - held, name))


def _lock_out(connection: Connection, tables: Sequence[Table], milliseconds: int) -> None:
    """The same against writers, in one call of the server. Raises _Busy, which names the table."""
    each = sql.SQL("").join(
        sql.SQL("lock table only {} in share mode;\n").format(table.identifier) for table in tables
    )
    connection.execute(sql.SQL("set local statement_timeout = {}").format(sql.Literal(milliseconds)))
    try:
        connection.execute(sql.SQL("do $lock$ begin\n{}end $lock$").format(each))
    except psycopg.errors.QueryCanceled as error:
        # the last line of the context ends with the line of the block: the first table is in the second
        numbers = re.findall(r"\d+", (error.diag.context or "").rpartition("\n")[2])
        at = int(numbers[-1]) - 2 if numbers else -1
        raise _Busy(tables[at].label if 0 <= at < len(tables) else None) from None
    connection.execute("set local statement_timeout = 0")


def _place(label: str, first: Sequence[str]) -> int:
    return first.index(label) if label in first else len(first)
