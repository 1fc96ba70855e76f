"""Fewer requests after a refusal, more again slowly, and an end to patience."""

from __future__ import annotations

from bilten_orchestration.search.pace import LONGEST_PAUSE_SECONDS, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def paced(most: int, patience_seconds: float) -> tuple[Pace, Clock]:
    clock = Clock()
    return Pace(most, patience_seconds, clock=lambda: clock.now, sleep=clock.sleep), clock


def test_it_halves_when_refused_and_grows_by_one_per_round() -> None:
    pace, _ = paced(8, 1_000)
    assert pace.limit == 8
    pace.refused()
    assert pace.limit == 4
    for _ in range(5):
        pace.refused()
    assert pace.limit == 1
    for _ in range(1_000):
        pace.accepted()
    assert pace.limit == 8
    assert pace.refusals == 6


def test_pauses_grow_to_their_bound_and_begin_anew() -> None:
    pace, clock = paced(1, 10_000)
    for _ in range(20):
        assert pace.refused()
    assert max(clock.slept) <= LONGEST_PAUSE_SECONDS
    assert clock.slept[-1] > 10 * clock.slept[0]
    pace.accepted()
    pace.refused()
    assert clock.slept[-1] < 1


def test_patience_ends_and_something_that_was_accepted_renews_it() -> None:
    pace, clock = paced(1, 5)
    while pace.refused():
        pass
    assert clock.now == 5
    pace.accepted()
    assert pace.refused()
