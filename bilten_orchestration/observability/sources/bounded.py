"""Connections to PostgreSQL that end by a deadline, whatever the server does: stop, hang, or vanish.

A time limit of the server's own helps nothing where the server hangs. So the socket is shut from another
thread when time is up; libpq then reports a lost connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from bilten_orchestration.overdue import overdue
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated


@contextlib.contextmanager
def connected(
    settings: Settings, doing: str, *, role: postgres.Role = "owner", seconds: float
) -> Iterator[postgres.Connection]:
    """A read-only connection in autocommit, gone after `seconds`. Raises as `translated` does."""
    quick = settings.postgres.model_copy(
        update={
            "connect_timeout_seconds": max(2, min(int(seconds), settings.postgres.connect_timeout_seconds))
        }
    )
    with (
        translated(doing),
        postgres.connect(quick, role, application_name="bilten serve", autocommit=True) as connection,
        # a descriptor of our own: libpq closes its one when the connection breaks, and it may be used anew
        socket.socket(fileno=os.dup(connection.fileno())) as shared,
        overdue(seconds, lambda: _shut(shared)),
    ):
        connection.execute("set default_transaction_read_only = on")
        connection.execute(f"set statement_timeout = {int(seconds * 1000)}")
        yield connection


def _shut(shared: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        shared.shutdown(socket.SHUT_RDWR)
