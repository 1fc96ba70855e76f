"""Batches against real servers: what is new arrives, once, and days are touched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from bilten_orchestration.ingestion.sync import reconcile, sync
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.shop import NOON, Shop, owner


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    with owner(settings) as connection:
        yield Shop(connection).open()


def test_first_load_and_increments_are_equal_to_postgres(settings: Settings, shop: Shop) -> None:
    order = shop.order(tickets=2)
    shop.free_ticket(complimentary=True)
    first = sync(settings)
    assert first.kind == "first"
    assert date(2026, 3, 10) in first.touched_days

    shop.order(NOON + timedelta(days=1))
    shop.set(
        "tickets.tickets", order.tickets[0], status="checked_in", checked_in_at=NOON + timedelta(days=80)
    )
    second = sync(settings)
    assert second.kind == "incremental"
    assert second.rows["payments.payments"] == 1
    assert set(second.touched_days) == {date(2026, 3, 11), date(2026, 5, 29)}

    third = sync(settings)
    assert (dict(third.rows), dict(third.deletes), dict(third.touched_days)) == ({}, {}, {})
    report = reconcile(settings)
    assert report.equal, report
