"""Runs one script of one migration and keeps its record; see runner.py for what a kill leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

import psycopg

from bilten_orchestration.errors import BiltenError, Problem, StoreUnavailable, TerminalError, TransientError
from bilten_orchestration.migrations import history
from bilten_orchestration.migrations.files import Direction, Migration
from bilten_orchestration.migrations.statements import Statement
from bilten_orchestration.overdue import overdue
from bilten_orchestration.progress import Progress
from bilten_orchestration.stores.postgres import Connection

ANNOUNCE_AFTER_SECONDS = 2.0
LOCK_TIMEOUT_SECONDS = 10  # a statement that waits for a lock makes everybody queue behind it
_RETRYABLE = (
    "40P01",
    "40001",
    "55P03",
    "57014",
    "53300",
)  # deadlock, serialization, lock timeout, cancel, slots

RunStatement = Callable[[str], object]


class _Failed(Exception):
    """One statement failed; `statement` is None when it was the commit."""

    def __init__(self, statement: Statement | None, position: str, error: Exception) -> None:
        super().__init__(position)
        self.statement, self.position, self.error = statement, position, error


def run(
    connection: Connection,
    migration: Migration,
    direction: Direction,
    clickhouse: RunStatement,
    progress: Progress,
) -> float:
    """Run and record; returns the seconds it took.

    `connection` is the owner's, in autocommit, and holds the lock; `clickhouse` runs one statement there.
    Raises TransientError or TerminalError naming the statement, after the failure was recorded.
    """
    script = migration.script(direction)
    started = time.monotonic()
    progress(f"{migration.label}: {direction}, {len(script.statements)} statements")
    # a backend busy with a long statement would not notice that its runner died, and would keep the lock
    connection.execute("set client_connection_check_interval = '2s'")
    history.begin(connection, migration, direction)
    try:
        if migration.store == "clickhouse":
            for position, statement in enumerate(script.statements, 1):
                # a lost connection has lost the lock, and another runner may be at work
                connection.execute("select 1")
                _run_one(migration, direction, position, statement, clickhouse, progress)
            history.complete(connection, migration, direction)
        elif script.transactional:
            _in_transaction(connection, migration, direction, progress)
        else:
            connection.execute(f"set lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
            for position, statement in enumerate(script.statements, 1):
                _run_one(migration, direction, position, statement, connection.execute, progress)
            history.complete(connection, migration, direction)
    except _Failed as failed:
        _record_and_raise(connection, migration, direction, failed)
    except psycopg.Error as error:
        _record_and_raise(connection, migration, direction, _Failed(None, "the history of migrations", error))
    finally:
        if not connection.closed:
            connection.execute("reset role; reset all")
    seconds = time.monotonic() - started
    progress(f"{migration.label}: {direction} done in {seconds:.1f} s")
    return seconds


def _in_transaction(
    connection: Connection, migration: Migration, direction: Direction, progress: Progress
) -> None:
    try:
        with connection.transaction():
            connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
            for position, statement in enumerate(migration.script(direction).statements, 1):
                _run_one(migration, direction, position, statement, connection.execute, progress)
            history.complete(connection, migration, direction)
    except psycopg.Error as error:
        raise _Failed(None, "commit", error) from None


def _run_one(
    migration: Migration,
    direction: Direction,
    position: int,
    statement: Statement,
    execute: Callable[[str], object],
    progress: Progress,
) -> None:
    where = f"statement {position} of {len(migration.script(direction).statements)}, line {statement.line}"
    with overdue(
        ANNOUNCE_AFTER_SECONDS, lambda: progress(f"{migration.label}: still at {where}: {statement.title}")
    ):
        try:
            execute(statement.text)
        except Exception as error:  # noqa: BLE001 each store's client has its own tree; told apart where it is reported
            raise _Failed(statement, where, error) from None


def _record_and_raise(
    connection: Connection, migration: Migration, direction: Direction, failed: _Failed
) -> NoReturn:
    script = migration.script(direction)
    message = " | ".join(str(failed.error).strip().splitlines()) or type(failed.error).__name__
    text = f"{script.path.name}, {failed.position}: {message}"
    if connection.closed:
        raise StoreUnavailable(
            f"the connection to PostgreSQL broke during {migration.label} ({direction})",
            expected="a connection until the end",
            found=text,
            next="once it is back: bilten migrate status, then the same command again",
        ) from None
    history.fail(connection, migration, direction, text)
    state = (
        "rolled back, nothing of it is left"
        if script.transactional
        else "statements before it are done; all of them may be repeated"
    )
    problem = Problem(
        f"{migration.label}: {direction} failed at {failed.position} of {script.path.name}",
        expected=failed.statement.title if failed.statement else "commit",
        found=f"{message} ({state})",
        next="correct the cause or the file, then run the same command again",
    )
    raise _error_type(failed.error)(problem) from None


def _error_type(error: Exception) -> type[BiltenError]:
    if isinstance(error, BiltenError):
        return type(error)
    if isinstance(error, psycopg.Error):
        return TransientError if error.sqlstate in _RETRYABLE else TerminalError
    from clickhouse_connect.driver.exceptions import OperationalError

    return TransientError if isinstance(error, OperationalError) else TerminalError
