"""A unit test reaches no server: every outgoing connection is an error, Python's and libpq's alike."""

from __future__ import annotations

import sys
from typing import Any

import psycopg
import pytest

_blocked = False


def _refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    if _blocked and event == "socket.connect":
        raise RuntimeError(
            f"a unit test tried to connect to {arguments[1]!r}; it belongs into tests/integration"
        )


sys.addaudithook(_refuse_connections)  # once per process: hooks cannot be removed, hence the switch


@pytest.fixture(autouse=True)
def _no_connections(monkeypatch: pytest.MonkeyPatch) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a unit test tried to connect to PostgreSQL; it belongs into tests/integration")

    global _blocked
    monkeypatch.setattr(psycopg, "connect", refuse)
    monkeypatch.setattr(psycopg.Connection, "connect", refuse)
    monkeypatch.setattr(psycopg.AsyncConnection, "connect", refuse)
    _blocked = True
    yield
    _blocked = False
