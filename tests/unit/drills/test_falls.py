"""What was counted, against the drill before."""

from __future__ import annotations

import pytest

from bilten_orchestration.drills.falls import fall


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (100, 81, False),
        (100, 79, True),
        (100, 0, True),
        (100, None, True),
        (10, 1, False),  # too few to tell
        (10, 0, True),
        (0, 0, False),
        (100, 200, False),
    ],
)
def test_a_fall_warns(before: int, now: int | None, told: bool) -> None:
    proof = fall({"a.x": before}, {} if now is None else {"a.x": now}, "rows", 20)
    assert proof.warns
    assert proof.ok is not told
    assert ("a.x" in proof.found) is told
