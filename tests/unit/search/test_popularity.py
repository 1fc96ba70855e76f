"""Which days are counted for popularity, and when none are."""

from __future__ import annotations

from datetime import date

import pytest

from bilten_orchestration.errors import Refused
from bilten_orchestration.metrics.days import DAY, span
from bilten_orchestration.search.popularity import _changes, _Totals, window

TODAY = date(2026, 5, 31)
LONG_AGO = date(2020, 1, 1)
ALL = set(span(date(2026, 4, 1), TODAY))


def test_thirty_days_that_are_over() -> None:
    assert window(ALL, TODAY, LONG_AGO) == (date(2026, 5, 1), date(2026, 5, 30))


def test_before_the_morning_build_the_window_ends_a_day_earlier() -> None:
    assert window(ALL - {TODAY - DAY, TODAY}, TODAY, LONG_AGO) == (date(2026, 4, 30), date(2026, 5, 29))


def test_what_is_before_the_first_day_was_never_counted() -> None:
    assert window({TODAY - DAY}, TODAY, TODAY - DAY) == (TODAY - DAY, TODAY - DAY)


@pytest.mark.parametrize("published", [set(), {TODAY}, {TODAY - 4 * DAY}])
def test_numbers_that_are_old_are_none(published: set[date]) -> None:
    with pytest.raises(Refused, match="shows no day of late"):
        window(published, TODAY, LONG_AGO)


def test_a_missing_day_is_not_one_without_sales() -> None:
    with pytest.raises(Refused, match=r"(?s)lacks days.*1 missing, from 2026-05-09.*--from 2026-05-09"):
        window(ALL - {date(2026, 5, 9)}, TODAY, LONG_AGO)


def test_only_what_differs_is_written() -> None:
    totals = _Totals()
    known = [("a", 1), ("b", 2), ("c", 3), ("e", 5)]
    counted = [("0", 9), ("b", 2), ("c", 4), ("d", 1)]
    assert list(_changes(iter(known), iter(counted), totals)) == [
        ("0", 9),
        ("a", 0),
        ("c", 4),
        ("d", 1),
        ("e", 0),
    ]
    assert (totals.events, totals.tickets, totals.changed) == (4, 16, 5)
