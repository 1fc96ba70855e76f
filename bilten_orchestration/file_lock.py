"""One holder of a file at a time, on one machine: flock, gone with its holder.

For what must not overlap and cannot ask PostgreSQL for an advisory lock, because it may be down.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bilten_orchestration.errors import LockHeld
from bilten_orchestration.progress import Progress

WAIT_SECONDS = 900


@contextmanager
def exclusive(
    path: Path, purpose: str, progress: Progress, *, wait_seconds: float = WAIT_SECONDS
) -> Iterator[None]:
    """Hold the lock; waits for another holder, saying so once. Raises LockHeld when that takes too long."""
    # never truncated or removed: another process may hold the lock on this very inode
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_seconds
    told = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "not known"
            if time.monotonic() >= deadline:
                raise LockHeld(
                    f"another command is at work in {path.parent}",
                    expected=f"free within {wait_seconds:g} s",
                    found=holder,
                    next="wait for it, or end it",
                )
            if not told:
                progress(f"waiting for {holder}")
                told = True
            time.sleep(0.2)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"`bilten {purpose}`, pid {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
