"""A migrated pair of stores with a shop in it, and one parsed dbt project for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.metrics import manifest
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.world import World


@pytest.fixture(scope="session")
def parsed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose manifest is prepared."""
    home = tmp_path_factory.mktemp("parsed")
    manifest.prepare(Settings(home=home))
    return home


@pytest.fixture
def stores(settings: Settings, parsed_project: Path) -> Settings:
    """The session's settings, with the manifest prepared."""
    (settings.home / "dbt").mkdir(parents=True, exist_ok=True)
    (settings.home / "dbt" / "manifest").symlink_to(manifest.directory(Settings(home=parsed_project)))
    return settings


@pytest.fixture
def world(stores: Settings) -> Iterator[World]:
    with owner(stores) as connection:
        yield World(stores, connection)
