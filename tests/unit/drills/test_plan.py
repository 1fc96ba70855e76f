"""In eight days every way is walked; one that fails comes again, and keeps no other from its turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.drills import plan
from bilten_orchestration.errors import UsageError
from bilten_orchestration.settings import OpenSearchSettings, Settings

BEGAN = datetime(2026, 11, 1, 5, tzinfo=UTC)
STORES = sorted({way.store for way in plan.WAYS})


PASTS = st.dictionaries(
    st.sampled_from([way.name for way in plan.WAYS]),
    st.builds(plan.Walked, st.integers(0, 100).map(lambda days: BEGAN - timedelta(days=days)), st.booleans()),
)


@given(st.sampled_from(STORES), PASTS, st.sets(st.sampled_from([way.name for way in plan.WAYS])))
def test_every_way_has_its_turn_whatever_fails_beside_it(
    store: str, past: dict[str, plan.Walked], broken: set[str]
) -> None:
    """From any past on: those that can pass have passed within the time that is promised."""
    known, passed = dict(past), set[str]()
    for day in range(plan.EVERY_WAY_WITHIN.days):
        for way in plan.due(store, known):
            known[way.name] = plan.Walked(BEGAN + timedelta(days=day), way.name not in broken)
            if known[way.name].ok:
                passed.add(way.name)
    assert passed == {way.name for way in plan.ways_of(store)} - broken


@given(st.lists(st.booleans(), min_size=30, max_size=30))
def test_one_that_fails_comes_again_the_next_day(good: list[bool]) -> None:
    known: dict[str, plan.Walked] = {}
    failed: str | None = None
    for day, passes in enumerate(good):
        daily, other, *again = [way.name for way in plan.due("postgres", known)]
        assert daily == "exact"
        assert failed in (None, other, *again)
        assert len(again) <= 1
        for name in again:
            known[name] = plan.Walked(BEGAN + timedelta(days=day), True)
        known[other] = plan.Walked(BEGAN + timedelta(days=day, seconds=1), passes)
        failed = None if passes else other


def test_a_store_without_drills() -> None:
    with pytest.raises(UsageError) as error:
        plan.due("bucket", {})
    assert error.value.problems[0].expected == "postgres or clickhouse or redis or search"


def test_search_is_drilled_where_it_is_on() -> None:
    on = Settings()
    off = on.model_copy(update={"opensearch": OpenSearchSettings(enabled=False)})
    assert set(plan.drilled(on)) - set(plan.drilled(off)) == {"search"}
    assert {plan.comes_from(store) for store in plan.drilled(on)} == set(plan.drilled(off))
