from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.databases import Servers, empty_database


@pytest.fixture
def database(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Migrated, without any month."""
    with empty_database(servers, tmp_path) as settings:
        runner.up(settings, store="postgres")
        yield settings


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with postgres.connect(database.postgres, autocommit=True) as connection:
        yield connection
