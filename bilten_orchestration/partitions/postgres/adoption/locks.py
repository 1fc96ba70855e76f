"""How an adoption, its way back, and what empties a default partition ask for locks, and tell what failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import sql

from bilten_orchestration.errors import Refused, TransientError
from bilten_orchestration.partitions.locking import Patience
from bilten_orchestration.partitions.locking import retried as waited
from bilten_orchestration.stores.postgres import Connection

T = TypeVar("T")


class ChangedMeanwhile(psycopg.errors.LockNotAvailable):
    """Somebody changed the table between reading its shape and locking it: tried again, as for a lock."""


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
