from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.errors import UsageError
from bilten_orchestration.partitions.bounds import INTERVALS, Interval, Period, literal, periods

# 400 periods later there is a date still
DAYS = st.dates(min_value=date(1900, 1, 8), max_value=date(9900, 1, 1))


def month(year: int, number: int) -> Period:
    return Period(date(year, number, 1))


@given(DAYS, st.sampled_from(INTERVALS))
def test_every_day_lies_in_its_period_and_periods_touch(day: date, interval: Interval) -> None:
    period = Period.of(day, interval)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert period.start <= at < period.end
    assert period.plus(1).start == period.end
    assert period.plus(13).plus(-13) == period
    assert Period.parse(str(period), interval) == period


@given(DAYS, st.integers(1, 400), st.sampled_from(INTERVALS))
def test_other_periods_have_other_names_that_sort_as_time_does(
    day: date, later: int, interval: Interval
) -> None:
    one = Period.of(day, interval)
    two = one.plus(later)
    assert one < two
    assert one.suffix < two.suffix


def test_a_moment_counts_by_its_utc_day() -> None:
    auckland = timezone(timedelta(hours=13))
    assert Period.of(datetime(2026, 1, 1, 5, tzinfo=auckland)) == month(2025, 12)
    with pytest.raises(ValueError, match="no time zone"):
        Period.of(datetime(2026, 1, 1))


def test_year_end_leap_day_and_names() -> None:
    assert [str(m) for m in periods(month(2023, 12), month(2024, 3))] == [
        "2023-12",
        "2024-01",
        "2024-02",
        "2024-03",
    ]
    assert (month(2024, 2).end - month(2024, 2).start).days == 29
    assert month(2024, 2).suffix == "p202402"
    assert list(periods(month(2024, 2), month(2024, 1))) == []


@pytest.mark.parametrize(
    ("day", "name", "suffix", "start", "end"),
    [
        # the first days of 2027 belong to the last week of 2026, which has 53
        (date(2027, 1, 3), "2026-W53", "p2026w53", date(2026, 12, 28), date(2027, 1, 4)),
        (date(2024, 12, 30), "2025-W01", "p2025w01", date(2024, 12, 30), date(2025, 1, 6)),
        (date(2024, 2, 29), "2024-W09", "p2024w09", date(2024, 2, 26), date(2024, 3, 4)),
    ],
)
def test_weeks_are_iso_weeks_from_monday(day: date, name: str, suffix: str, start: date, end: date) -> None:
    week = Period.of(day, "week")
    assert (str(week), week.suffix, week.start.date(), week.end.date()) == (name, suffix, start, end)
    assert week.start.weekday() == 0


def test_the_leap_day_is_a_day() -> None:
    day = Period.of(date(2024, 2, 29), "day")
    assert (str(day), day.suffix, day.end.date()) == ("2024-02-29", "p20240229", date(2024, 3, 1))


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("2026-13", "month"),
        ("2026-01-01", "month"),
        ("202601", "month"),
        ("2025-W53", "week"),
        ("2026-W00", "week"),
        ("2026-02-29", "day"),
        ("", "day"),
    ],
)
def test_what_is_no_period_is_refused(text: str, interval: Interval) -> None:
    with pytest.raises(UsageError, match=f"no {interval}"):
        Period.parse(text, interval)


def test_a_period_begins_with_its_first_day() -> None:
    with pytest.raises(ValueError, match="no month begins"):
        Period(date(2026, 1, 2))


def test_a_literal_names_its_zone() -> None:
    assert literal(month(2024, 2).start) == "'2024-02-01 00:00:00+00'"
