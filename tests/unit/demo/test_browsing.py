"""What becomes of clicks that ClickHouse does not take."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from bilten_orchestration.demo import browsing
from bilten_orchestration.demo.browsing import Clicks
from bilten_orchestration.demo.buying import Offer

OFFER = Offer(UUID(int=1), UUID(int=2), UUID(int=3), Decimal(5), "EUR", 2)


def test_clicks_are_kept_for_the_next_time_the_newest_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[dict[str, Any]]] = []

    def refuse(client: object, batch: list[dict[str, Any]]) -> None:
        sent.append(batch)
        raise OSError("away")

    monkeypatch.setattr(browsing, "HELD_AT_MOST", 100)
    monkeypatch.setattr(browsing, "write", refuse)
    clicks, rng = Clicks(), random.Random(1)
    made: list[UUID] = []
    for _ in range(3):
        for _ in range(60):
            clicks.visit(rng, OFFER, uuid4(), None, checkout=True)
        with pytest.raises(OSError, match="away"):
            clicks.send(None)  # type: ignore[arg-type]
        held = 0 if len(sent) < 2 else 100
        made += [row["click_id"] for row in sent[-1][held:]]
    taken: list[dict[str, Any]] = []
    monkeypatch.setattr(browsing, "write", lambda client, batch: taken.extend(batch))
    clicks.send(None)  # type: ignore[arg-type]
    assert [row["click_id"] for row in taken] == made[-100:]
    repeats = clicks.made - len(made)
    assert 0 < repeats < 0.1 * len(made)
