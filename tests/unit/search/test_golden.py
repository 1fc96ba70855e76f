"""How many questions may be answered otherwise."""

from __future__ import annotations

import pytest

from bilten_orchestration.search.golden import Answered


@pytest.mark.parametrize(
    ("asked", "right", "wanted", "ok"),
    [
        (6, 6, 1.0, True),
        (6, 5, 1.0, False),
        (13, 11, 0.9, True),
        (13, 8, 0.9, False),
        (40, 31, 0.9, True),
        (40, 29, 0.9, False),
        (40, 33, 0.95, False),
        (1, 0, 0.95, False),
        (0, 0, 0.95, True),
    ],
)
def test_what_is_allowed_for_is_chance(asked: int, right: int, wanted: float, ok: bool) -> None:
    assert Answered("a kind", asked, right, wanted, ()).ok is ok
