"""Days are built, judged, published; what is refused before anything is touched."""

from __future__ import annotations

from bilten_orchestration.metrics.build import build
from tests.integration.metrics.world import FIRST, World, later


def test_built_twice_is_identical(world: World) -> None:
    world.trade(FIRST, later(FIRST, 2)).sync()
    first = build(world.settings, FIRST, later(FIRST, 2), progress=print, refresh_whole=False)
    assert first.problems == ()
    rows = world.published()
    assert len(rows) == 6
    second = build(world.settings, FIRST, later(FIRST, 2), refresh_whole=False)
    assert second.counts() == {"swapped": 0, "unchanged": 15, "refused": 0}
    assert world.published() == rows
