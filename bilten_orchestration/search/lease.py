"""One builder at a time: a lease in system.search_state, with an advisory lock beside it.

The lock tells at once that a holder is dead: it goes with its session. The lease tells of a holder that is
not dead and does nothing, whose session may stay for hours: once it has run out, the next one ends its
sessions and takes over. A holder that comes back then finds another token, and stops before its next write.

What it had sent already is harmless: versions are batch numbers, so nothing older wins (bulk.py), and the
alias moves only from the index that it was on (swap.py).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID, uuid4

import psycopg

from bilten_orchestration.errors import LockHeld
from bilten_orchestration.search import definition
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import LET_GO_SECONDS, advisory_lock
from bilten_orchestration.stores.postgres import Connection

LOCK = "search:build"


class Lease:
    """Held while the block of `held` runs; renewed in a thread of its own, on a session of its own."""

    def __init__(self, connection: Connection, token: UUID, seconds: float) -> None:
        self.token = token
        self._connection = connection
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._ended = threading.Event()
        self._busy = threading.Lock()
        self._why = ""

    def check(self) -> None:
        """Raises LockHeld when it was lost, or was not renewed in time."""
        if self._why or time.monotonic() >= self._until:
            raise LockHeld(
                "the lease of search was lost: somebody else may be building",
                expected=f"renewed every {self._seconds / 3:g} s",
                found=self._why or "not renewed in time",
                next="bilten search status; then the same again",
            )

    def renew(self) -> None:
        """Ask PostgreSQL, now. Raises as `check`."""
        with self._busy:
            if not self._why:
                asked = time.monotonic()
                try:
                    row = self._connection.execute(
                        "update system.search_state "
                        "set lease_until = clock_timestamp() + %s * interval '1 s' "
                        "where alias = %s and lease_token = %s returning alias",
                        (self._seconds, definition.ALIAS, self.token),
                    ).fetchone()
                except psycopg.Error as error:
                    self._why = f"its session ended: {str(error).strip().splitlines()[0]}"
                else:
                    if row is None:
                        self._why = "another holder has taken it"
                    else:
                        self._until = asked + self._seconds
        self.check()

    def keep(self) -> None:
        """The thread: renew until told to end, or lost."""
        while not self._ended.wait(self._seconds / 3):
            try:
                self.renew()
            except LockHeld:
                return

    def end(self) -> None:
        self._ended.set()


@contextmanager
def held(settings: Settings, run_id: str, beside: Connection) -> Iterator[Lease]:
    """The lease, for as long as the block runs. Raises LockHeld naming a holder that lives.

    `beside`: the session that the work is done on, with locks of its own.
    """
    with ExitStack() as stack:
        connection = stack.enter_context(
            postgres.connect(
                settings.postgres, "etl", application_name="bilten search lease", autocommit=True
            )
        )
        _lock(stack, connection)
        lease = Lease(connection, uuid4(), settings.search.lease_seconds)
        connection.execute(
            "insert into system.search_state (alias, lease_holder, lease_token, lease_pids, lease_until) "
            "values (%s, %s, %s, array[pg_backend_pid(), %s], clock_timestamp() + %s * interval '1 s') "
            "on conflict (alias) do update set lease_holder = excluded.lease_holder, "
            "lease_token = excluded.lease_token, lease_pids = excluded.lease_pids, "
            "lease_until = excluded.lease_until, updated_at = clock_timestamp()",
            (
                definition.ALIAS,
                f"{run_id} ({socket.gethostname()}, process {os.getpid()})",
                lease.token,
                beside.info.backend_pid,
                settings.search.lease_seconds,
            ),
        )
        keeper = threading.Thread(target=lease.keep, name="search-lease", daemon=True)
        keeper.start()
        try:
            yield lease
        finally:
            lease.end()
            keeper.join()
            if not connection.closed and not connection.broken:
                connection.execute(
                    "update system.search_state set lease_holder = null, lease_token = null, "
                    "lease_pids = null, lease_until = null where alias = %s and lease_token = %s",
                    (definition.ALIAS, lease.token),
                )


def _lock(stack: ExitStack, connection: Connection) -> None:
    try:
        stack.enter_context(advisory_lock(connection, LOCK, wait_seconds=LET_GO_SECONDS))
    except LockHeld:
        row = connection.execute(
            "select lease_holder, lease_pids, lease_until, lease_until < clock_timestamp() "
            "from system.search_state where alias = %s and lease_token is not null",
            (definition.ALIAS,),
        ).fetchone()
        if row is None:
            raise
        holder, pids, until, over = row
        if not over:
            raise LockHeld(
                "search is being built, rolled back or tidied up by somebody else",
                expected="nobody, or a lease that has run out",
                found=f"{holder}, until {until:%F %T} UTC and then renewed",
                next="wait for it to end; bilten search status shows how far it is",
            ) from None
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where pid = any(%s) and application_name like 'bilten search%%'",
            (pids,),
        )
        stack.enter_context(advisory_lock(connection, LOCK, wait_seconds=LET_GO_SECONDS))
