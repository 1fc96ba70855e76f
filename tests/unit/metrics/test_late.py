"""Stale days: a valid base (everything shown), one change, one consequence."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics.days import DAY, Reach, span
from bilten_orchestration.metrics.late import (
    DirtyDay,
    Shown,
    clean_days,
    days_without_late_clicks,
    late_runs,
    needed_batches,
    settled_days,
    stale_days,
)

FIRST = date(2026, 3, 1)
NOW = datetime(2026, 6, 1, 13, tzinfo=UTC)
REACH = Reach(back=1, ahead=2)
BATCHES = dict.fromkeys(span(FIRST, FIRST + DAY * 29), 5)
AS_OF = dict.fromkeys(BATCHES, NOW)


def shown(reach: Reach = REACH, **changes: int) -> list[Shown]:
    """A mart with that reach, and money marts beside it; `changes`: batches by number of day (d10=6)."""
    batches = BATCHES | {day(int(name[1:])): batch for name, batch in changes.items()}
    return [Shown("fct_money", Reach(), batches, AS_OF), Shown("fct_touches", reach, batches, AS_OF)]


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def dirty(number: int, batch: int = 6, generation: int = 1) -> DirtyDay:
    return DirtyDay(day(number), generation, batch, "payments")


def test_a_day_touched_by_the_batch_that_is_shown_is_clean() -> None:
    assert stale_days([dirty(10, batch=5)], shown()) == {}
    assert clean_days([dirty(10, batch=5)], shown()) == [dirty(10, batch=5)]


def test_a_newer_batch_makes_its_whole_reach_stale() -> None:
    assert list(stale_days([dirty(10)], shown())) == [day(9), day(10), day(11), day(12)]
    assert clean_days([dirty(10)], shown()) == []


def test_days_that_were_never_published_are_neither_stale_nor_in_the_way() -> None:
    assert list(stale_days([dirty(0)], shown())) == [day(0), day(1), day(2)]
    assert clean_days([dirty(0)], shown(d0=6, d1=6, d2=6)) == [dirty(0)]


def test_a_dirty_day_that_was_never_published_stays_dirty() -> None:
    assert clean_days([dirty(-1, batch=5)], shown()) == []


def test_one_day_of_the_reach_that_was_refused_keeps_the_day_dirty() -> None:
    assert clean_days([dirty(10)], shown(d9=6, d10=6, d11=6)) == []


def test_a_day_that_one_mart_has_never_shown_stays_dirty_alone() -> None:
    money, touches = shown()
    without = {held: batch for held, batch in BATCHES.items() if held != day(10)}
    refused = Shown(money.mart, money.reach, without, AS_OF)
    causes = [dirty(number, batch=5) for number in range(9, 12)]
    assert clean_days(causes, [refused, touches]) == [causes[0], causes[2]]


def test_the_batch_needed_is_the_newest_that_reaches_into_a_day() -> None:
    needed = needed_batches([dirty(10, batch=6), dirty(11, batch=9)], REACH)
    assert needed[day(10)] == 9
    assert needed[day(9)] == 6
    assert day(8) not in needed


def test_a_contiguous_range_is_one_run_and_its_key_is_made_of_days_and_generations() -> None:
    runs = late_runs([dirty(10, generation=3), dirty(12)], shown(), at=NOW, settled_until=NOW)
    assert [str(run.days) for run in runs] == ["2026-03-10..2026-03-15"]
    assert runs[0].key == "2026-03-11@3+2026-03-13@1"
    again = late_runs([dirty(10, generation=4), dirty(12)], shown(), at=NOW, settled_until=NOW)
    assert again[0].key != runs[0].key


def test_runs_are_bounded_in_number_and_length_the_newest_first() -> None:
    scattered = [dirty(number) for number in (0, 6, 12, 18, 24)]
    runs = late_runs(scattered, shown(), at=NOW, settled_until=NOW, at_most=2)
    assert [run.days.first for run in runs] == [day(23), day(17)]
    everything = [dirty(number) for number in range(30)]
    assert {
        len(run.days.days) for run in late_runs(everything, shown(), at=NOW, settled_until=NOW, longest=10)
    } == {10}


def test_long_keys_are_hashed() -> None:
    [run] = late_runs([dirty(number) for number in range(30)], shown(Reach()), at=NOW, settled_until=NOW)
    assert len(run.key) == 64


def test_open_days_are_left_to_the_schedules_and_so_is_what_they_cause() -> None:
    at = datetime.combine(day(12), datetime.min.time(), UTC)  # day 10 is the newest that is over
    assert late_runs([dirty(11)], shown(), at=at, settled_until=at) == []
    [run] = late_runs([dirty(10)], shown(), at=at, settled_until=at)
    assert run.days.last == day(10)


def test_days_that_no_run_built_since_their_last_click_could_come_are_late() -> None:
    """The day is over at 12:00 of the next; clicks come for 72 hours more, and end funnels for another 24."""
    complete = datetime.combine(day(10) + DAY * 5, time(12), UTC)
    early = AS_OF | {day(10): complete - timedelta(seconds=1), day(20): complete}
    marts = [Shown("fct_money", Reach(), BATCHES, AS_OF), Shown("fct_touches", REACH, BATCHES, early)]
    assert days_without_late_clicks(marts, at=NOW) == {day(10): 5, day(20): 5}
    [first, second] = late_runs([dirty(21)], marts, at=NOW, settled_until=NOW)
    assert (str(first.days), first.key) == ("2026-03-21..2026-03-24", "2026-03-21@clicks of 5+2026-03-22@1")
    assert (str(second.days), second.key) == ("2026-03-11", "2026-03-11@clicks of 5")

    exactly = [Shown("fct_touches", REACH, BATCHES, AS_OF | {day(10): complete})]
    assert days_without_late_clicks(exactly, at=NOW) == {}


def test_provisional_days_are_late_once_the_transactions_of_their_time_have_ended() -> None:
    """A day is over everywhere at 12:00 of the next."""
    provisional = {day(10), day(11), day(20)}
    marts = [Shown("fct_money", Reach(), BATCHES, AS_OF, provisional)]
    settled = datetime.combine(day(11) + DAY, time(12), UTC)
    assert settled_days(marts, at=NOW, settled_until=settled) == {day(10): 5, day(11): 5}
    assert settled_days(marts, at=NOW, settled_until=settled - timedelta(seconds=1)) == {day(10): 5}
    [run] = late_runs([], marts, at=NOW, settled_until=settled)
    assert (str(run.days), run.key) == (
        "2026-03-11..2026-03-12",
        "2026-03-11@settled since 5+2026-03-12@settled since 5",
    )
    # the daily run builds the newest closed days anyhow
    at = datetime.combine(day(25) + DAY, time(13), UTC)
    assert settled_days(marts, at=at, settled_until=at) == dict.fromkeys(provisional, 5)
    assert settled_days(marts, at=at - DAY, settled_until=at) == {day(10): 5, day(11): 5}


def test_days_that_the_daily_run_still_reaches_are_left_to_it() -> None:
    marts = [Shown("fct_touches", REACH, BATCHES, dict.fromkeys(BATCHES, NOW - timedelta(days=200)))]
    at = datetime.combine(day(12) + DAY, time(13), UTC)  # the run at this hour builds days 8 to 14
    assert day_rules.newest_over(at) == day(12)
    assert max(days_without_late_clicks(marts, at=at)) == day(7)
