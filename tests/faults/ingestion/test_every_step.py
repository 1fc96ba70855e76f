"""kill -9 of the sync at every write to a store, before it and during it: the next call makes both equal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.shop import NOON, Shop, owner
from tests.kills import killed_at_store

pytestmark = pytest.mark.faults
STRIDE = 4  # each test takes every fourth turn
ZONES = ("Pacific/Auckland", "America/New_York")


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    with owner(settings) as connection:
        yield Shop(connection, timezone=ZONES[0]).open()


def _change(shop: Shop, number: int, rounds: int) -> None:
    shop.set("users.organizations", shop.organization, timezone=ZONES[rounds % 2])
    shop.order(NOON + timedelta(days=number))
    shop.delete("tickets.tickets", shop.free_ticket(NOON + timedelta(days=number), complimentary=True))


@pytest.mark.parametrize("full", [False, True], ids=["incremental", "full"])
@pytest.mark.parametrize("first", range(1, STRIDE + 1))
def test_at_every_turn(settings: Settings, shop: Shop, first: int, full: bool) -> None:
    shop.order(datetime(2026, 3, 1, 20, tzinfo=UTC))
    sync(settings)
    number, rounds = first, 0
    while True:
        rounds += 1
        _change(shop, number, rounds)
        if not killed_at_store(lambda: sync(settings, full=full), number):
            break
        if rounds % 5 == 0:  # a second kill on top of the first
            killed_at_store(lambda: sync(settings, full=full), number + 1)
        report = sync(settings, reconcile=True)
        assert report.reconciliation is not None
        assert report.reconciliation.equal, (number, report.reconciliation.sample)
        assert shop.connection.execute(
            "select applying_batch from system.sync_state where batch = %s", (report.batch,)
        ).fetchone() == (None,)
        dirty = {
            row[0]
            for row in shop.connection.execute(
                "select day from system.metric_dirty_days where generation > built_generation"
            )
        }
        # the evening order lies on the next day in Auckland and on its own in New York: both are dirtied
        assert {date(2026, 3, 1), date(2026, 3, 2)} <= dirty, number
        shop.connection.execute("update system.metric_dirty_days set built_generation = generation")
        number += STRIDE
    assert number > 40, "a sync writes more often than that"
