"""Named locks in PostgreSQL: session advisory locks, gone with their holder.

One namespace for CLI, Dagster and tests alike. A killed holder's lock is released by the server as
soon as it sees the connection broken, so nothing here can be left behind; who would not wait for a
living holder waits `LET_GO_SECONDS` for that.

The names in use:

    migrations        one migration runner
    sync-run          one sync
    sync              exclusive: a batch is applied; shared: a build reads one batch
    build:marts       one build of the daily marts
    snapshot          shared: whatever reads a snapshot; exclusive: detach and drop of partitions
    partitions        one maintenance of partitioned tables: making, ending, restoring
    demo              one demo load
    backup:<store>    one backup of a store (backups/lock.py)
    backup:copies     whatever writes into the second bucket, or removes from it
    drill:<store>     one drill of a store (drills/run.py)
    wal:stream        one stream of WAL into the repository
    recover           one recovery
    dagster-runs      one removal of old runs
    slow-queries      one look at the statistics of statements
    search:build      one builder, roller-back or remover of search indices, beside its lease
    search:<index>    one batch of changes of an index
    search:popularity one count of sales for search
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bilten_orchestration.errors import LockHeld
from bilten_orchestration.stores.postgres import Connection

LET_GO_SECONDS = 3
_KEY = "hashtextextended('bilten:' || %s, 0)"

_HOLDERS = f"""
    select a.pid, a.usename, a.application_name, a.state, a.backend_start
    from pg_locks l join pg_stat_activity a using (pid)
    where l.locktype = 'advisory' and l.granted and l.objsubid = 1
      and ((l.classid::bigint << 32) | l.objid::bigint) = {_KEY}
      and l.database = (select oid from pg_database where datname = current_database())
      and a.pid <> pg_backend_pid()
    order by a.backend_start
"""


@contextmanager
def advisory_lock(
    connection: Connection,
    name: str,
    *,
    shared: bool = False,
    wait_seconds: float = 0,
    on_wait: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the named lock on this connection (which must be in autocommit).

    Waits up to `wait_seconds`, then raises LockHeld naming the holders. `on_wait` is told once, with
    the holders, that there is something to wait for.
    """
    if not connection.autocommit:
        raise ValueError("a session lock wants a connection in autocommit")
    suffix = "_shared" if shared else ""
    statement = f"select pg_try_advisory_lock{suffix}({_KEY})"
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        row = connection.execute(statement, (name,)).fetchone()
        if row is not None and row[0]:
            break
        holders = _holders(connection, name)
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"the lock '{name}' is held by another runner",
                expected=f"free within {wait_seconds:g} s",
                found=holders,
                next="wait for it to end, or end it if it hangs: select pg_terminate_backend(pid)",
            )
        if on_wait is not None and not told:
            on_wait(holders)
            told = True
        time.sleep(0.2)
    try:
        yield
    finally:
        if not connection.closed and not connection.broken:
            connection.execute(f"select pg_advisory_unlock{suffix}({_KEY})", (name,))


def _holders(connection: Connection, name: str) -> str:
    rows = connection.execute(_HOLDERS, (name,)).fetchall()
    return (
        "; ".join(f"pid {row[0]}, {row[1]}, {row[2] or 'unnamed'}, since {row[4]:%F %T}" for row in rows)
        or "gone"
    )
