from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from bilten_orchestration.migrations.files import STORES
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests.databases import Servers, empty_database

Write = Callable[..., None]


@pytest.fixture
def database(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    with empty_database(servers, tmp_path) as settings:
        yield settings


@pytest.fixture
def owner(database: Settings) -> Iterator[postgres.Connection]:
    with postgres.connect(database.postgres, autocommit=True) as connection:
        yield connection


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty tree of migrations."""
    tree = tmp_path / "sql"
    for store in STORES:
        (tree / store).mkdir(parents=True)
    return tree


@pytest.fixture
def write(root: Path) -> Write:
    def _write(store: str, version: int, name: str, up: str, down: str) -> None:
        (root / store / f"V{version:04d}__{name}.up.sql").write_text(up)
        (root / store / f"V{version:04d}__{name}.down.sql").write_text(down)

    return _write


def tables(connection: psycopg.Connection[tuple[object, ...]], schema: str = "shop") -> list[str]:
    rows = connection.execute(
        """
        select relname::text from pg_class
        where relnamespace = to_regnamespace(%s) and relkind = 'r' order by 1
        """,
        (schema,),
    ).fetchall()
    return [str(name) for (name,) in rows]
