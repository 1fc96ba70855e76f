"""In eight days every way is walked, whatever fails in between comes again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.drills import plan
from bilten_orchestration.errors import UsageError

BEGAN = datetime(2026, 11, 1, 5, tzinfo=UTC)
STORES = sorted({way.store for way in plan.WAYS})


@given(
    st.sampled_from(STORES),
    st.dictionaries(
        st.sampled_from([way.name for way in plan.WAYS]),
        st.integers(0, 100).map(lambda days: BEGAN - timedelta(days=days)),
    ),
)
def test_in_eight_days_every_way_was_walked(store: str, passed: dict[str, datetime]) -> None:
    """From any past on, when all pass."""
    known, walked = dict(passed), {}
    for day in range(plan.EVERY_WAY_WITHIN.days):
        now = BEGAN + timedelta(days=day)
        for way in plan.due(store, known):
            known[way.name] = walked[way.name] = now
    assert set(walked) == {way.name for way in plan.ways_of(store)}


@given(st.lists(st.booleans(), min_size=30, max_size=30))
def test_one_that_fails_comes_again_the_next_day(good: list[bool]) -> None:
    known: dict[str, datetime] = {}
    failed: str | None = None
    for day, passes in enumerate(good):
        ways = plan.due("postgres", known)
        assert [way.name for way in ways if way.daily] == ["exact"]
        (other,) = [way.name for way in ways if not way.daily]
        if failed is not None:
            assert other == failed
        failed = None if passes else other
        if passes:
            known[other] = BEGAN + timedelta(days=day)


def test_a_store_without_drills() -> None:
    with pytest.raises(UsageError) as error:
        plan.due("search", {})
    assert error.value.problems[0].expected == "postgres or clickhouse or redis"
