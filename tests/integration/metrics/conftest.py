"""A migrated pair of stores with a shop in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bilten_orchestration.settings import Settings
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.world import World


@pytest.fixture
def world(stores: Settings) -> Iterator[World]:
    with owner(stores) as connection:
        yield World(stores, connection)
