"""Local days: what exists, what is over, ranges, reach."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from bilten_orchestration.metrics import days
from bilten_orchestration.metrics.days import DayRange, Reach

DAY = date(2026, 3, 10)


def test_a_day_is_over_everywhere_when_it_is_over_at_utc_minus_12() -> None:
    last_moment = datetime(2026, 3, 10, 23, 59, 59, tzinfo=timezone(timedelta(hours=-12)))
    assert not days.is_over(DAY, last_moment)
    assert days.is_over(DAY, last_moment + timedelta(seconds=1))


def test_the_newest_day_over_at_13_utc_is_yesterday_and_at_4_utc_the_day_before() -> None:
    assert days.newest_over(datetime(2026, 3, 11, 13, tzinfo=UTC)) == DAY
    assert days.newest_over(datetime(2026, 3, 11, 4, tzinfo=UTC)) == date(2026, 3, 9)


def test_the_last_day_has_begun_nowhere_or_only_just() -> None:
    begun_in_kiritimati = datetime(2026, 3, 11, 10, tzinfo=UTC)
    assert days.last_day(begun_in_kiritimati) == date(2026, 3, 13)


def test_ranges_are_contiguous_ordered_and_bounded() -> None:
    shuffled = [date(2026, 3, 5), date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 3)]
    assert days.ranges(shuffled) == [
        DayRange(date(2026, 3, 1), date(2026, 3, 3)),
        DayRange(date(2026, 3, 5), date(2026, 3, 5)),
    ]
    assert [str(found) for found in days.ranges(shuffled, longest=2)] == [
        "2026-03-01..2026-03-02",
        "2026-03-03",
        "2026-03-05",
    ]
    assert days.ranges([]) == []


@pytest.mark.parametrize(("back", "ahead", "count"), [(0, 0, 1), (2, 0, 3), (1, 32, 34)])
def test_reach_is_around_the_day(back: int, ahead: int, count: int) -> None:
    found = Reach(back, ahead).of(DAY)
    assert len(found) == count
    assert found[0] == DAY - timedelta(days=back)
    assert found[-1] == DAY + timedelta(days=ahead)
