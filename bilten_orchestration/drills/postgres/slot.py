"""The point by a temporary logical slot."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.postgres import readers as shared
from bilten_orchestration.drills.postgres.digests import Table
from bilten_orchestration.drills.postgres.readers import NAME, Found
from bilten_orchestration.overdue import overdue
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

_ATTEMPTS = 2


def find(
    settings: Settings, readers: Sequence[Connection], progress: Progress
) -> tuple[Found, tuple[Table, ...]] | None:
    for attempt in range(1, _ATTEMPTS + 1):
        wanted = digests.tables(readers[0])
        # the slot waits for whoever writes now: those who still do at its point began behind this
        since = shared.position(readers[0])
        try:
            with _slot(settings, settings.drills.slot_wait_seconds) as (lsn, snapshot):
                shared.see(readers, snapshot, wanted)
            return Found(lsn, "slot", since), shared.whole(readers[0], wanted)
        except (*shared.AGAIN, psycopg.errors.LockNotAvailable) as error:
            shared.roll_back(readers)
            progress(f"a slot, attempt {attempt} of {_ATTEMPTS}: {shared.words(error)}")
        except psycopg.Error as error:
            # no slot left, wal_level below logical, no line in pg_hba.conf: another attempt changes nothing
            shared.roll_back(readers)
            progress(f"no slot: {shared.words(error)}")
            return None
    return None


@contextmanager
def _slot(settings: Settings, seconds: int) -> Iterator[tuple[str, str]]:
    """Its consistent point and its snapshot; it is dropped at the end, which ends its connection."""
    said = postgres.parameters(settings.postgres, application_name=NAME)
    said["options"] += f" -c lock_timeout={seconds * 1000}"
    with psycopg.connect(autocommit=True, replication="database", **said) as walsender:
        name = f"bilten_drill_{os.getpid()}_{time.time_ns()}"
        # statement_timeout does not count for a walsender, and lock_timeout for each transaction anew
        with overdue(seconds, lambda: walsender.cancel_safe(timeout=10)):
            row = walsender.execute(
                sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')").format(
                    sql.Identifier(name)
                )
            ).fetchone()
        assert row is not None  # noqa: S101
        yield row[1], row[2]
