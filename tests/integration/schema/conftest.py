from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.migrations import runner
from bilten_orchestration.partitions.postgres.premake import premake
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.databases import Servers, empty_database


@pytest.fixture
def database(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    with empty_database(servers, tmp_path) as settings:
        yield settings


@pytest.fixture(scope="session")
def operational(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The operational schema with its months, shared by tests that roll back."""
    with empty_database(servers, tmp_path_factory.mktemp("operational")) as settings:
        runner.up(settings, store="postgres")
        premake(settings)
        yield settings


@pytest.fixture
def owner(operational: Settings) -> Iterator[Connection]:
    """The owner in a transaction that is rolled back at the end."""
    with postgres.connect(operational.postgres) as connection:
        yield connection
        connection.rollback()
