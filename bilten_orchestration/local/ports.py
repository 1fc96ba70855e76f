"""Choosing ports, and saying who holds one that is taken."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import socket
import sys
import textwrap
from collections.abc import Collection
from pathlib import Path

LOOPBACK = "127.0.0.1"
ATTEMPTS = 200
_UNREGISTERED = 15_000  # well-known servers listen below
WORDS = 100
_claims: dict[int, socket.socket] = {}


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


def claim(port: int, host: str = LOOPBACK) -> bool:
    """Whether the port is free and from now on, until this process ends, left alone by others who ask here.

    Two stacks that start in the same second would both find a port free, and only one server gets it; or
    none notices, for gRPC shares ports (SO_REUSEPORT) and Dagster would talk to the other stack's code.
    """
    return is_free(port, host) and _claim(port)


def _claim(port: int) -> bool:
    if port in _claims or not sys.platform.startswith("linux"):
        return True
    # a name in the abstract namespace: seen by every user of this network namespace, gone with its process
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind("\0" + _name(port))
    except OSError:
        name.close()
        return False
    _claims[port] = name
    return True


def _name(port: int) -> str:
    return f"bilten-port-{port}"


def next_free(first: int, taken: Collection[int] = (), host: str = LOOPBACK) -> int:
    """The first port from `first` on that is not in `taken` and can be claimed; any one when 200 cannot."""
    for port in range(first, min(first + ATTEMPTS, 65536)):
        if port not in taken and claim(port, host):
            return port
    return any_free(taken, host)


def any_free(taken: Collection[int] = (), host: str = LOOPBACK) -> int:
    """A port that can be claimed, from below those that the system gives to outgoing connections.

    One of the latter may be taken again before the server listens: on a busy machine it is, now and then.
    """
    for port in random.sample(range(_UNREGISTERED, _ephemeral()), ATTEMPTS):
        if port not in taken and claim(port, host):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in taken and claim(port, host):
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
    with contextlib.suppress(OSError):
        if f"@{_name(port)}\n" in Path("/proc/net/unix").read_text():
            return "another stack that is starting"
    return "nobody any more"
