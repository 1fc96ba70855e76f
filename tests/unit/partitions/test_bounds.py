from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.partitions.bounds import Month, literal, months


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(9998, 12, 31)))
def test_every_day_lies_in_its_month_and_months_touch(day: date) -> None:
    month = Month.of(day)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    assert month.start <= at < month.end
    assert month.plus(1).start == month.end
    assert month.plus(13).plus(-13) == month


def test_a_moment_counts_by_its_utc_day() -> None:
    auckland = timezone(timedelta(hours=13))
    assert Month.of(datetime(2026, 1, 1, 5, tzinfo=auckland)) == Month(2025, 12)
    with pytest.raises(ValueError, match="no time zone"):
        Month.of(datetime(2026, 1, 1))


def test_year_end_leap_day_and_names() -> None:
    assert [str(m) for m in months(Month(2023, 12), Month(2024, 3))] == [
        "2023-12",
        "2024-01",
        "2024-02",
        "2024-03",
    ]
    assert (Month(2024, 2).end - Month(2024, 2).start).days == 29
    assert Month(2024, 2).suffix == "p202402"
    assert list(months(Month(2024, 2), Month(2024, 1))) == []


def test_a_literal_names_its_zone() -> None:
    assert literal(Month(2024, 2).start) == "'2024-02-01 00:00:00+00'"
