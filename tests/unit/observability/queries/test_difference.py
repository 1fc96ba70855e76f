"""The numbered cases of difference.py, and that no history gives a negative or a doubled number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.observability.queries.difference import Look, difference, slow
from bilten_orchestration.observability.queries.statistics import Counters, Entry, Key, Reading

T0 = datetime(2026, 11, 22, 12, tzinfo=UTC)
EPOCH = {"system_identifier": "1", "timeline": 1}
KEY = Key(5, 10, 77, True)


def _at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def _calls(calls: int, milliseconds: float | None = None) -> Counters:
    return Counters(calls, calls * 2.0 if milliseconds is None else milliseconds, calls, calls, 0, 0, 0)


def _reading(
    entries: dict[Key, Entry], *, at: datetime | None = None, reset: datetime | None = None
) -> Reading:
    return Reading(at or _at(10), reset or _at(-60), 3, {5: "bilten"}, entries)


LOOK = Look(EPOCH, _at(5), _at(-60), 1)
OLD = {KEY: Entry(_at(-50), _calls(10))}


def test_1_a_first_look_counts_nothing() -> None:
    found = difference(None, {}, _reading(OLD), EPOCH, 5)
    assert (found.basis, found.since, found.counted) == ("first look", None, {})


def test_2_another_server_counts_nothing() -> None:
    for epoch in ({**EPOCH, "timeline": 2}, {**EPOCH, "system_identifier": "2"}):
        found = difference(LOOK, OLD, _reading({KEY: Entry(_at(-50), _calls(90))}), epoch, 5)
        assert (found.basis, found.counted) == ("other server", {})


def test_3_an_entry_counts_by_its_difference() -> None:
    found = difference(LOOK, OLD, _reading({KEY: Entry(_at(-50), _calls(14))}), EPOCH, 5)
    assert (found.basis, found.since, found.evictions) == ("since last look", _at(5), 2)
    assert found.counted == {KEY: _calls(4)}


def test_3_one_that_did_not_run_is_left_out() -> None:
    assert difference(LOOK, OLD, _reading(OLD), EPOCH, 5).counted == {}


def test_4_a_new_entry_counts_whole() -> None:
    other = Key(5, 11, 77, True)
    found = difference(LOOK, OLD, _reading({**OLD, other: Entry(_at(7), _calls(3))}), EPOCH, 5)
    assert found.counted == {other: _calls(3)}


def test_5_an_evicted_entry_that_came_again_counts_whole_even_above_its_baseline() -> None:
    found = difference(LOOK, OLD, _reading({KEY: Entry(_at(6), _calls(12))}), EPOCH, 5)
    assert found.counted == {KEY: _calls(12)}


def test_5_before_postgresql_17_a_fall_tells_it() -> None:
    baseline = {KEY: Entry(None, _calls(10))}
    found = difference(LOOK, baseline, _reading({KEY: Entry(None, _calls(2))}), EPOCH, 5)
    assert found.counted == {KEY: _calls(2)}


def test_6_a_reset_after_the_last_look_counts_all() -> None:
    reading = _reading({KEY: Entry(_at(7), _calls(50))}, reset=_at(6))
    found = difference(LOOK, OLD, reading, EPOCH, 5)
    assert (found.basis, found.counted) == ("since reset", {KEY: _calls(50)})


def test_7_statistics_of_before_the_last_look_count_nothing() -> None:
    reading = _reading({KEY: Entry(_at(-90), _calls(50))}, reset=_at(-120))
    found = difference(LOOK, OLD, reading, EPOCH, 5)
    assert (found.basis, found.counted) == ("older statistics", {})


def test_8_a_counter_that_fell_counts_nothing_and_is_told() -> None:
    found = difference(LOOK, OLD, _reading({KEY: Entry(_at(-50), _calls(9))}), EPOCH, 5)
    assert (found.counted, found.fell) == ({}, (KEY,))


def test_other_databases_are_left_to_their_own_look() -> None:
    reading = _reading({Key(6, 10, 77, True): Entry(_at(7), _calls(3))})
    assert difference(LOOK, OLD, reading, EPOCH, 5).counted == {}


def test_slow_by_the_mean_and_by_the_total() -> None:
    counted = {
        Key(5, 1, 1, True): _calls(1000, 900.0),  # heaviest
        Key(5, 1, 2, True): _calls(1, 500.0),  # slow
        Key(5, 1, 3, True): _calls(2, 400.0),
        Key(5, 1, 4, True): _calls(1, 300.0),  # not above the mean: as long
    }
    assert [key.query_id for key in slow(counted, mean_milliseconds=300, top=1)] == [1, 2]
    assert [key.query_id for key in slow(counted, mean_milliseconds=1e9, top=0)] == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["run", "look", "evict", "reset", "failover"]), st.integers(1, 9)), max_size=40
)


@given(STEPS, st.booleans())
def test_what_is_counted_never_exceeds_what_ran_since_the_first_look(
    steps: list[tuple[str, int]], knows_since: bool
) -> None:
    """Equal to it where nothing was evicted, reset or failed over between."""
    timeline, reset, since, calls = 1, _at(-60), _at(-50), 0
    look: Look | None = None
    baseline: dict[Key, Entry] = {}
    ran = counted = 0
    lossless = True
    for minute, (what, number) in enumerate([*steps, ("look", 1)], 1):
        if what == "run":
            if calls == 0:
                since = _at(minute)
            calls += number
            ran += number if look is not None else 0
        elif what in ("evict", "reset", "failover"):
            lossless = lossless and calls == (baseline[KEY].counters.calls if KEY in baseline else 0)
            calls = 0
            if what == "reset":
                reset = _at(minute)
            if what == "failover":
                timeline, reset = timeline + 1, _at(minute)
                lossless = False
        else:
            entries = {KEY: Entry(since if knows_since else None, _calls(calls))} if calls else {}
            reading = _reading(entries, at=_at(minute), reset=reset)
            epoch = {**EPOCH, "timeline": timeline}
            found = difference(look, baseline, reading, epoch, 5)
            for counters in found.counted.values():
                assert not counters.fell
                counted += counters.calls
            look, baseline = Look(epoch, _at(minute), reset, 0), entries
    assert counted <= ran
    if lossless and knows_since:
        assert counted == ran
