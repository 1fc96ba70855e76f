"""PostgreSQL databases for tests that need no other store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bilten_orchestration.settings import PostgresSettings, Settings


class _Postgres(Protocol):
    def settings(self, database: str = ...) -> PostgresSettings: ...


class Servers(Protocol):
    """What the session-wide fixture `servers` offers."""

    numbers: Iterator[int]

    @property
    def postgres(self) -> _Postgres: ...

    def create_database(self, name: str) -> None: ...

    def drop_database(self, name: str) -> None: ...


@contextmanager
def empty_database(servers: Servers, home: Path) -> Iterator[Settings]:
    """A new database with roles and extensions, before any migration."""
    name = f"test_{next(servers.numbers)}"
    servers.create_database(name)
    try:
        yield Settings(home=home, environment="test", postgres=servers.postgres.settings(name))
    finally:
        servers.drop_database(name)
