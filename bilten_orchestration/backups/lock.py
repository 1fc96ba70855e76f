"""One backup of a store at a time, whoever takes it: Dagster, the command line, another machine.

Two locks, always in this order: a file in the state directory, which holds while PostgreSQL is down, and a
session advisory lock in PostgreSQL, which holds on every machine. Both go with their holder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock


@contextmanager
def held(settings: Settings, store: Store | Literal["copies"], progress: Progress) -> Iterator[None]:
    """Hold the locks of a store, or those of what writes into the second bucket.

    Raises LockHeld when another backup of it takes too long."""
    until = time.monotonic() + settings.backups.lock_wait_seconds
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(
            exclusive(
                settings.home / f"backup-{store}.lock",
                "backup copy" if store == "copies" else f"backup create {store}",
                progress,
                wait_seconds=settings.backups.lock_wait_seconds,
            )
        )
        stack.enter_context(
            while_postgres_answers(
                settings,
                f"backup:{store}",
                wait_seconds=max(0.0, until - time.monotonic()),
                waiting_for="another backup",
                # a cache is worth saving, more than ever, while the database is down
                away="the lock holds on this machine alone",
                progress=progress,
            )
        )
        yield


@contextmanager
def while_postgres_answers(
    settings: Settings, name: str, *, wait_seconds: float, waiting_for: str, away: str, progress: Progress
) -> Iterator[None]:
    """Hold an advisory lock; where PostgreSQL does not answer, go on without it and say what that means
    (`away`).

    Raises LockHeld when somebody else holds it for longer."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(
                postgres.connect(settings.postgres, application_name="bilten lock", autocommit=True)
            )
        except StoreUnavailable:
            progress(f"PostgreSQL does not answer: {away}")
        else:
            stack.enter_context(
                advisory_lock(
                    connection,
                    name,
                    wait_seconds=wait_seconds,
                    on_wait=lambda holders: progress(f"waiting for {waiting_for}: {holders}"),
                )
            )
        yield
