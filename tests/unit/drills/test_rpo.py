"""What would have been lost, by clocks that agree; by others nothing is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bilten_orchestration.drills.record import Lost
from bilten_orchestration.drills.report import CLOCKS_APART as APART
from bilten_orchestration.drills.rpo import Exposure

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SKEWS = [timedelta(hours=1), timedelta(days=365)]


def _sample(sampled_at: datetime, reachable_until: datetime, rpo_seconds: float | None = None) -> Lost:
    seconds = (sampled_at - reachable_until).total_seconds()
    # as the table keeps it
    return Lost("b", sampled_at, reachable_until, max(0.0, seconds) if rpo_seconds is None else rpo_seconds)


def _of(sample: Lost) -> float | None:
    return Exposure(NOW, {"b": sample}).seconds("b")


def test_a_fresh_sample_is_taken_and_an_old_one_counts_to_now() -> None:
    assert _of(_sample(NOW - 30 * SECOND, NOW - 50 * SECOND)) == 20
    assert _of(_sample(NOW - 600 * SECOND, NOW - 620 * SECOND)) == 620
    assert Exposure(NOW, {}, NOW - 90 * SECOND).seconds("b") == 90
    assert Exposure(NOW, {}).seconds("b") is None


@pytest.mark.parametrize("skew", SKEWS)
def test_what_lies_ahead_tells_nothing(skew: timedelta) -> None:
    assert Exposure(NOW, {}, NOW + skew).seconds("b") is None
    assert _of(_sample(NOW + skew, NOW + skew - 20 * SECOND)) is None
    # its own clock was right, the heartbeat's was not: the table keeps 0
    sample = _sample(NOW - 30 * SECOND, NOW + skew)
    assert sample.rpo_seconds == 0
    assert _of(sample) is None


@pytest.mark.parametrize("skew", SKEWS)
def test_what_lies_behind_is_lost(skew: timedelta) -> None:
    assert Exposure(NOW, {}, NOW - skew).seconds("b") == skew.total_seconds()
    assert (_of(_sample(NOW - skew, NOW - skew - 20 * SECOND)) or 0) >= skew.total_seconds()


def test_within_what_clocks_may_be_apart_it_is_never_nothing() -> None:
    assert Exposure(NOW, {}, NOW + APART / 2).seconds("b") == APART.total_seconds() / 2
