from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bilten_orchestration.migrations import runner
from bilten_orchestration.partitions.premake import ensure_months
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.databases import Servers, empty_database


@pytest.fixture
def database(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Migrated, with this month and the next one for slow queries. Its statements are its own: the
    statistics are the server's, but each test has another database."""
    with empty_database(servers, tmp_path) as settings:
        runner.up(settings, store="postgres")
        today = datetime.now(UTC).date()
        with postgres.connect(settings.postgres, autocommit=True) as connection:
            ensure_months(connection, "system.slow_queries", today, today)
        yield settings


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with postgres.connect(database.postgres, autocommit=True) as connection:
        yield connection
