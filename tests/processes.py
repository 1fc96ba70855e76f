"""Which processes of this machine a test means.

A process may end while it is looked at; then it is not among those that are told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from bilten_orchestration.local import processes
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores import postgres


def living(
    meant: Callable[[psutil.Process], bool], among: Iterable[psutil.Process] | None = None
) -> list[psutil.Process]:
    """Those that are so, of all or of some. A zombie has ended."""
    found = []
    for process in psutil.process_iter() if among is None else among:
        with contextlib.suppress(psutil.Error, OSError):
            if processes.runs(process) and meant(process):
                found.append(process)
    return found


def names(among: Iterable[psutil.Process]) -> set[str]:
    found = set()
    for process in among:
        with contextlib.suppress(psutil.Error):
            found.add(process.name())
    return found


def runs(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return processes.runs(psutil.Process(pid))
    return False


def at_work_in(place: Path) -> list[psutil.Process]:
    """Those that work below it, or were given a path in it."""
    return living(
        lambda process: (
            any(str(place) in word for word in process.cmdline())
            or Path(process.cwd()).is_relative_to(place.resolve())
        )
    )


def clients_of(server: PostgresSettings, *names: str) -> list[psutil.Process]:
    """Programs of these names that are connected to it."""
    return living(
        lambda process: (
            process.name() in names and any(f"port='{server.port}'" in word for word in process.cmdline())
        )
    )


def checkpointer(server: PostgresSettings) -> psutil.Process:
    """A backup waits for it before it reads anything."""
    with postgres.connect(server) as connection:
        row = connection.execute(
            "select pid from pg_stat_activity where backend_type = 'checkpointer'"
        ).fetchone()
    assert row is not None
    return psutil.Process(row[0])


def inet_sockets(place: Path) -> list[Any]:
    """Sockets of any of them that reach beyond this machine's files: who listens, and who is connected."""
    found: list[Any] = []
    for process in at_work_in(place):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += process.net_connections("inet")
    return found


def listening(place: Path) -> list[tuple[str, int]]:
    """TCP addresses at which any of them listens."""
    return [(at.laddr.ip, at.laddr.port) for at in inet_sockets(place) if at.status == psutil.CONN_LISTEN]
