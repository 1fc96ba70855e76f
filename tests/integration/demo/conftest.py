from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest

from bilten_orchestration.demo.load import LoadReport, load
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

TODAY = date(2026, 6, 30)


@pytest.fixture(scope="session")
def today() -> date:
    """A fixed day, so that a failure can be repeated; clocks changed on both hemispheres before it."""
    return TODAY


@pytest.fixture(scope="session")
def loaded(servers: Any) -> Iterator[tuple[Settings, LoadReport]]:
    """Operational rows at scale 0.1, for tests that only look or roll back."""
    with database(servers) as settings:
        yield settings, load(settings, scale=0.1, today=TODAY, parts=())


@pytest.fixture
def fresh(servers: Any) -> Iterator[Callable[[], Settings]]:
    """Makes empty, migrated databases."""
    names: list[str] = []

    def make() -> Settings:
        assert servers.template is not None
        names.append(f"test_demo_{next(servers.numbers)}")
        servers.create_database(names[-1], template="bilten_template")
        return servers.settings(names[-1], servers.clickhouse.settings)

    yield make
    for name in names:
        servers.drop_database(name)


@contextmanager
def database(servers: Any) -> Iterator[Settings]:
    assert servers.template is not None
    name = f"test_demo_{next(servers.numbers)}"
    servers.create_database(name, template="bilten_template")
    yield servers.settings(name, servers.clickhouse.settings)
    servers.drop_database(name)


@pytest.fixture
def owner(loaded: tuple[Settings, LoadReport]) -> Iterator[Connection]:
    """The owner's connection to `loaded`; whatever the test changes is rolled back."""
    connection = postgres.connect(loaded[0].postgres)
    yield connection
    connection.rollback()
    connection.close()
