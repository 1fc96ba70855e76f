"""Each cause of a touched day alone: exactly its days are touched, and every cause is tried."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest

from bilten_orchestration.ingestion import touched
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.ingestion.tables import TABLES
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from tests.integration.ingestion.causes import CASES
from tests.integration.ingestion.shop import Shop


@pytest.mark.parametrize("source", sorted({case.source for case in CASES}))
def test_a_change_touches_exactly(settings: Settings, shop: Shop, source: str) -> None:
    """Each case has a shop of its own, so that no change of one is that of another."""
    histories = {
        case.history.__name__: case.history(Shop(shop.connection).open())
        for case in CASES
        if case.source == source
    }
    for history in histories.values():
        next(history)
    sync(settings)
    expected, found = {}, {}
    for name, history in histories.items():
        expected[name] = next(history)
        found[name] = set(sync(settings).touched_days)
    assert found == expected
    assert dict(sync(settings).touched_days) == {}


def test_clicks_of_an_event_move_with_it(settings: Settings, shop: Shop) -> None:
    """The last entry of events.events: its days are read from the clicks themselves."""
    client = clickhouse.connect(settings.clickhouse)
    sync(settings)
    client.command(
        "insert into analytics.events (click_id, event_id, timestamp, local_date)"
        f" values (generateUUIDv4(), '{shop.event}', '2026-02-01 12:00:00', '2026-02-01')"
    )
    client.close()
    shop.set("events.events", shop.event, organizer_id=shop.buyer)
    assert set(sync(settings).touched_days) == {date(2026, 2, 1)}


def test_every_fact_and_every_way_to_a_child_has_its_case() -> None:
    facts = {(table.source, fact.date) for table in TABLES for fact in table.facts}
    assert facts == {(case.source, case.proves) for case in CASES if isinstance(case.proves, str)}
    entries = {source: len(found) for source, found in touched._CHILDREN.items()}
    proven = Counter(
        source for source, _ in {(c.source, c.proves) for c in CASES if isinstance(c.proves, int)}
    )
    # the clicks of an event have a test of their own
    assert entries == proven + Counter({"events.events": 1})
    assert set(entries) == set(touched._PARENTS)
