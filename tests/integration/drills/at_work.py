"""Servers and programs of a drill, by the place that it works in."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psutil


def at_work_in(place: Path) -> list[psutil.Process]:
    """Those that work in it, or were given a path in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            given = any(str(place) in word for word in process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and (
                given or Path(process.cwd()).is_relative_to(place.resolve())
            ):
                found.append(process)
    return found


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
