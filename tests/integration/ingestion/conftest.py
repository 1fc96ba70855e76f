"""One shop per test, and what ClickHouse shows of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bilten_orchestration.ingestion.sync import reconcile
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from tests.integration.ingestion.shop import Shop, owner

Ask = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    with owner(settings) as connection:
        yield Shop(connection).open()


@pytest.fixture
def ask(settings: Settings) -> Iterator[Ask]:
    """Rows of a ClickHouse query."""
    client = clickhouse.connect(settings.clickhouse)

    def run(query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        return list(client.query(query, parameters=parameters or None).result_rows)

    yield run
    client.close()


@pytest.fixture
def equal(settings: Settings) -> Callable[[], None]:
    """Asserts that every synced row is the same on both sides."""

    def check() -> None:
        report = reconcile(settings)
        assert report.equal, (report.tables, report.sample)

    return check
