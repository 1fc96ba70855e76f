"""The locks of a build, and the watch over them while dbt runs.

The locks are those of a PostgreSQL session. When that session breaks (a restart of the server, a
network that drops it) they are gone while dbt still runs, and another build or a sync may start. So the
session is asked every few seconds, and dbt is killed when it does not answer.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

BUILD, SYNC = "build:marts", "sync"
ASK_SECONDS = 5.0


class LockWatch:
    """Knows whether the session that holds the locks still lives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lost = False

    def check(self) -> None:
        """Raises StoreUnavailable when the locks are gone."""
        if not self._lost:
            self._ask()
        if self._lost:
            raise StoreUnavailable(
                "PostgreSQL closed the session that held the locks of this build",
                expected="one session until the build has ended",
                found="a broken connection; dbt was stopped",
                next="start the same build again: it goes on with the days that had not ended",
            )

    @contextmanager
    def guard(self, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> Iterator[None]:
        """Kill the process when the locks are lost; raises then, at the end, as `check` does."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(ASK_SECONDS):
                self._ask()
                if self._lost:
                    process.kill()
                    return

        thread = threading.Thread(target=watch, name="lock-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        self.check()

    def _ask(self) -> None:
        try:
            self._connection.execute("select 1")
        except psycopg.Error:
            self._lost = True


@contextmanager
def build_locks(connection: Connection, settings: Settings, progress: Progress) -> Iterator[LockWatch]:
    """`build:marts` exclusive, then `sync` shared. Raises LockHeld, naming the holders."""
    seconds = settings.metrics.lock_wait_seconds

    def waiting(name: str, what: str) -> None:
        progress(f"waiting up to {seconds} s for {what} ({name})")

    with (
        advisory_lock(
            connection, BUILD, wait_seconds=seconds, on_wait=lambda holders: waiting(holders, "another build")
        ),
        advisory_lock(
            connection,
            SYNC,
            shared=True,
            wait_seconds=seconds,
            on_wait=lambda holders: waiting(holders, "a batch being applied"),
        ),
    ):
        yield LockWatch(connection)
