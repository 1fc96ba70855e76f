"""Statements of an application at a steady rate, from a process of its own, and how long each took.

A process of its own, for in this one the threads of what is measured would keep them waiting. Each
transaction is due at its time whether or not the one before has ended, and its time counts from then on: a
pause is seen by everyone who would have come in it.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores import postgres

WRITERS = 4
PER_SECOND = 50
STARTS_SECONDS = 60


@dataclass
class Traffic:
    """`seconds` of every transaction that was due, sorted; filled when the traffic has ended."""

    seconds: list[float]

    def quantile(self, part: float) -> float:
        return self.seconds[min(int(len(self.seconds) * part), len(self.seconds) - 1)]


@contextmanager
def running(settings: PostgresSettings) -> Iterator[Traffic]:
    """WRITERS * PER_SECOND transactions a second. Raises RuntimeError where one failed, or too few ended."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    begins, ends = context.Event(), context.Event()
    process = context.Process(target=_write_all, args=(settings, begins, ends, theirs), daemon=True)
    process.start()
    theirs.close()
    found = Traffic([])
    try:
        if not begins.wait(STARTS_SECONDS):
            raise RuntimeError("the writers did not begin")
        began = time.monotonic()
        yield found
        due = int((time.monotonic() - began) * WRITERS * PER_SECOND)
        ends.set()
        seconds, failures = ours.recv()
        if failures:
            raise RuntimeError(f"{len(failures)} writers failed: {failures[0]}")
        if len(seconds) < due * 0.9:
            raise RuntimeError(f"{len(seconds)} transactions were done where {due} were due")
        found.seconds[:] = sorted(seconds)
    finally:
        ends.set()
        process.join(STARTS_SECONDS)
        if process.is_alive():
            process.kill()


def _write_all(settings: PostgresSettings, begins: Event, ends: Event, result: Connection) -> None:
    seconds: list[float] = []
    failures: list[str] = []
    ready = threading.Barrier(WRITERS, begins.set)

    def write() -> None:
        try:
            with postgres.connect(settings, application_name="traffic", autocommit=True) as connection:
                ready.wait(STARTS_SECONDS)
                due = time.monotonic()
                while not ends.is_set():
                    with connection.transaction():
                        connection.execute("insert into users.user_behavior (action) values ('load')")
                        connection.execute(
                            "select count(*) from users.user_behavior"
                            " where created_at > now() - interval '1 second'"
                        )
                    seconds.append(time.monotonic() - due)
                    due += 1 / PER_SECOND
                    ends.wait(max(0.0, due - time.monotonic()))
        except Exception as error:  # noqa: BLE001 told by the one who asked
            failures.append(f"{type(error).__name__}: {error}")
            ready.abort()
            begins.set()

    threads = [threading.Thread(target=write) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.send((seconds, failures))
