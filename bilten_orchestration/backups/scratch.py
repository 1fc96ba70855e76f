"""A place for servers of our own that prove what a backup is worth: <state directory>/<name>, used by one at
a time, and empty at its beginning and gone at its end.

What a kill leaves (files, and servers that did not die with who started them) is ended and removed by the
next who takes the place. Servers are known by their working directory, which lies in it. Where the servers'
user cannot walk to the state directory, the place lies in the one that stands in for it (local/layout.py).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.local import processes
from bilten_orchestration.local.layout import for_servers
from bilten_orchestration.local.privileges import passable_directory, server_user
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_STOP_SECONDS = 60


@contextmanager
def place(settings: Settings, name: str, purpose: str, progress: Progress) -> Iterator[Path]:
    """The directory `name`, empty. `purpose` says to others who holds it: the command.

    Raises LockHeld when another one takes too long, Refused when the state directory cannot be made.
    """
    directory = for_servers(settings.home, server_user()) / name
    with exclusive(
        settings.home / f"{name}.lock", purpose, progress, wait_seconds=settings.backups.lock_wait_seconds
    ):
        if directory.exists():
            progress(f"removing {directory}, which a `bilten {purpose}` that was killed left")
        clear(directory, progress)
        passable_directory(directory)
        try:
            yield directory
        finally:
            clear(directory, silent)


def clear(directory: Path, progress: Progress) -> None:
    """End the servers that work in it, and remove it; by who holds the place."""
    if not directory.exists():
        return
    _stop_restored(directory)
    if ended := processes.end(_at_work_in(directory), seconds=_STOP_SECONDS):
        progress(f"ended servers that were left there: {', '.join(map(str, ended))}")
    shutil.rmtree(directory)


def _at_work_in(directory: Path) -> list[psutil.Process]:
    """Those that somebody else than one of them started: a server ends its own children."""
    within = directory.resolve()
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            if Path(process.cwd()).is_relative_to(within):
                found[process.pid] = process
    return [process for process in found.values() if _parent(process) not in found]


def _parent(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.ppid())
    return 0


def _stop_restored(directory: Path) -> None:
    """PostgreSQL's, with the directories of their sockets: their paths are short, so they lie elsewhere."""
    from bilten_orchestration.backups.postgres import private

    for record in directory.glob(f"*/{private.RECORD}"):
        private.stop(record.parent)
