"""Choosing ports, and saying who holds one that is taken."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import socket
import textwrap
from collections.abc import Collection
from pathlib import Path

LOOPBACK = "127.0.0.1"
ATTEMPTS = 200
_UNREGISTERED = 15_000  # well-known servers listen below
WORDS = 100


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # what servers do as well: a port in TIME_WAIT is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def next_free(first: int, taken: Collection[int] = (), host: str = LOOPBACK) -> int:
    """The first free port from `first` on that is not in `taken`; any free one when 200 are not."""
    for port in range(first, min(first + ATTEMPTS, 65536)):
        if port not in taken and is_free(port, host):
            return port
    return any_free(taken, host)


def any_free(taken: Collection[int] = (), host: str = LOOPBACK) -> int:
    """A free port, from below those that the system gives to outgoing connections.

    One of the latter may be taken again before the server listens: on a busy machine it is, now and then.
    """
    for port in random.sample(range(_UNREGISTERED, _ephemeral()), ATTEMPTS):
        if port not in taken and is_free(port, host):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _ephemeral() -> int:
    """The first port that the system gives to outgoing connections."""
    with contextlib.suppress(OSError, ValueError):
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        return max(first, _UNREGISTERED + ATTEMPTS)
    return 32768


def holder(port: int) -> str:
    """Who listens on a port, as far as the system tells this user: `pid 4711 (postgres -D ...)`."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return "a process of another user"
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.laddr.port != port:
            continue
        if connection.pid is None:
            return "a process of another user"
        try:
            process = psutil.Process(connection.pid)
            # only the program and its first arguments: command lines of strangers may hold secrets
            program, *arguments = process.cmdline()[:3] or [process.name()]
            words = shlex.join([os.path.basename(program), *arguments])
            return f"pid {connection.pid} ({textwrap.shorten(words, WORDS, placeholder=' ...')})"
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return f"pid {connection.pid}"
    return "nobody any more"
