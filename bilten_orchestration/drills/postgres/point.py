"""The exact point: a snapshot of production, and the position of WAL at which a restore holds just that.

A snapshot alone is no position: transactions become visible in another order than their commits lie in WAL.
Two ways give both:

    slot     a temporary logical slot exports a snapshot that is made from WAL itself, and names the position:
             it holds every commit whose record begins below that, and no other. Making one waits for the
             transactions that are open, for `drills.slot_wait_seconds`, and is tried twice.
    locks    all tables are locked against writes (SHARE), the snapshot is taken, a restore point is written,
             and the locks are gone. No writer is in between, so nothing differs. Writers wait for at most
             `drills.share_lock_milliseconds` while the locks are asked for, and as long while they are held.

Every reader imports the snapshot and locks the tables against DDL (ACCESS SHARE, as any SELECT) at once; then
the slot, or the locks, are given up. A table that was truncated, rewritten or made in between makes a new
attempt.

What a kill leaves: nothing. The slot is temporary, locks and snapshots are their session's, and the server
ends a session that holds SHARE locks when nobody speaks in it. One that waits gives up by its lock_timeout.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bilten_orchestration.drills.postgres import digests, locks, slot
from bilten_orchestration.drills.postgres.digests import Table
from bilten_orchestration.drills.postgres.readers import NAME
from bilten_orchestration.errors import LockHeld
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

_OPEN = """
    select string_agg(said, '; ') from (
        select 'pid ' || pid || ', ' || coalesce(usename, '') || ', ' || coalesce(application_name, '')
               || ', since ' || to_char(xact_start, 'HH24:MI:SS') as said
        from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
        union all
        select 'prepared transaction ' || gid || ', since ' || to_char(prepared, 'YYYY-MM-DD HH24:MI:SS')
        from pg_prepared_xacts limit 10) open
"""


@dataclass(frozen=True, slots=True)
class Point:
    """A restore that stops at `lsn`, exclusive, holds what the readers see. `at` is the server's clock just
    after it, `timeline` and `segment_bytes` are its WAL's. `wait_seconds` is how long the point was waited
    for, `lock_seconds` how long writers were locked out (0 with a slot), `restore_point` its name, if any.
    Transactions that the readers do not see have written nothing below `since`."""

    lsn: str
    at: datetime
    how: Literal["slot", "locks"]
    system_identifier: str
    timeline: int
    segment_bytes: int
    since: str
    wait_seconds: float
    lock_seconds: float = 0.0
    restore_point: str | None = None


@dataclass(frozen=True, slots=True)
class Exact:
    """`readers` are in transactions that see the point, `tables` what there is then."""

    point: Point
    readers: tuple[Connection, ...]
    tables: tuple[Table, ...]


@contextmanager
def exact(settings: Settings, progress: Progress) -> Iterator[Exact]:
    """The point, and connections that see it for as long as this lasts. No partition is dropped meanwhile.

    Raises LockHeld when neither way led to one, with who is in the way.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        keeper = stack.enter_context(
            postgres.connect(settings.postgres, application_name=NAME, autocommit=True)
        )
        wait = settings.drills.slot_wait_seconds
        stack.enter_context(advisory_lock(keeper, "snapshot", shared=True, wait_seconds=wait))
        readers = tuple(
            stack.enter_context(
                postgres.connect(settings.postgres, application_name=f"{NAME} digests", autocommit=True)
            )
            for _ in range(settings.drills.digest_connections)
        )
        for reader in readers:
            digests.pin(reader)
        found = slot.find(settings, readers, progress) or locks.find(settings, readers, progress)
        if found is None:
            row = keeper.execute(_OPEN).fetchone()
            raise LockHeld(
                "there is no moment at which a snapshot of production has a position in WAL",
                expected=f"no transaction that is open for more than {wait} s, or"
                f" {settings.drills.share_lock_milliseconds} ms without a writer",
                found=(row and row[0]) or "none that is open now",
                next="end what is open for long (pg_terminate_backend, rollback prepared); repeat the drill",
            )
        said, tables = found
        row = keeper.execute(
            "select clock_timestamp(), (select system_identifier from pg_control_system())::text,"
            " ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int,"
            " pg_size_bytes(current_setting('wal_segment_size'))"
        ).fetchone()
        assert row is not None  # noqa: S101
        at, identifier, timeline, segment_bytes = row
        point = Point(
            said.lsn,
            at,
            said.how,
            identifier,
            timeline,
            segment_bytes,
            said.since,
            time.monotonic() - began,
            *said.lock,
        )
        progress(f"the point is {point.lsn}, by {point.how}")
        yield Exact(point, readers, tables)
