"""One case of each family; the matrix of all engines is in tests/faults/backups/test_troubled_store.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from bilten_orchestration.errors import StoreFull, StoreUnavailable
from tests.conftest import Servers
from tests.integration.backups import engines
from tests.integration.backups.engines import Engine


@pytest.fixture(scope="module")
def engine(servers: Servers) -> Iterator[Engine]:
    with engines.engine(servers, "postgres") as found:
        yield found


def test_a_backup_before_a_store_with_troubles(engine: Engine) -> None:
    """It survives an outage that ends; otherwise, and without room, it ends and nothing of it is listed."""
    store = engine.troubled

    def away() -> None:
        store.away()
        threading.Timer(4, store.back).start()

    store.once(lambda request: request.writes_content, away, number=3)
    through = engine.take()
    assert engine.listed() == [through.id]
    engine.proves(through)

    store.once(lambda request: request.writes_content, store.away, number=3)
    with pytest.raises(StoreUnavailable):
        engine.take(engine.impatient(1))
    store.well()
    store.once(lambda request: request.writes_content, store.full, number=3)
    with pytest.raises(StoreFull, match="no room"):
        engine.take()
    engine.await_idle()
    store.well()
    assert engine.listed() == [through.id]
    engine.sweep()
    assert engine.listed() == [through.id]
