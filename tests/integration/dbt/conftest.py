"""One ClickHouse with the analytics schema, emptied for each test; dbt as its users run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from bilten_orchestration.metrics import manifest
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.clickhouse import connect
from tests.integration.dbt.project import Project


@pytest.fixture(scope="session")
def target_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture
def parsed(parsed_project: Path) -> Path:
    found = manifest.parsed(Settings(home=parsed_project))
    assert found is not None
    return found


@pytest.fixture
def project(settings: Settings, target_directory: Path, parsed: Path, dbt_forks: Path) -> Project:
    return Project(target_directory, settings, parsed=parsed, forks=dbt_forks)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    found = connect(settings.clickhouse)
    yield found
    found.close()
