from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.conftest import TEMPLATE, Servers


@pytest.fixture
def database(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Migrated, with its months, and no other store. Its statements are its own: the statistics are the
    server's, but each test has another database."""
    assert servers.template is not None  # made at its first use
    name = f"test_{next(servers.numbers)}"
    servers.create_database(name, template=TEMPLATE)
    yield Settings(home=tmp_path, environment="test", postgres=servers.postgres.settings(name))
    servers.drop_database(name)


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with postgres.connect(database.postgres, autocommit=True) as connection:
        yield connection
