"""Which rows the control totals look at: every moment that may lie on one of the days, and not all others."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.ingestion import controls

_RANGE = re.compile(r"p\.captured_at >= '([^']+)' and p\.captured_at < '([^']+)'")


def _ranges(days: list[date]) -> list[tuple[datetime, datetime]]:
    text = controls.statement(days)
    return [(datetime.fromisoformat(low), datetime.fromisoformat(high)) for low, high in _RANGE.findall(text)]


@given(
    days=st.lists(st.dates(date(2000, 1, 1), date(2030, 1, 1)), min_size=1, max_size=100),
    data=st.data(),
    offset=st.integers(-12 * 60, 14 * 60),
    minute=st.integers(0, 24 * 60 - 1),
)
def test_no_moment_of_a_day_is_left_out(
    days: list[date], data: st.DataObject, offset: int, minute: int
) -> None:
    day = data.draw(st.sampled_from(days))
    local = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
    moment = local - timedelta(minutes=offset)
    assert any(low <= moment < high for low, high in _ranges(days))


def test_days_far_apart_are_separate_ranges_and_many_are_cut_at_the_widest_gaps() -> None:
    assert len(_ranges([date(2025, 1, 1), date(2025, 1, 2), date(2026, 1, 1)])) == 2
    scattered = [date(2020, 1, 1) + timedelta(days=10 * n) for n in range(100)]
    ranges = _ranges([date(2010, 1, 1), *scattered])
    assert len(ranges) == 12
    assert ranges[0][1] < datetime(2010, 1, 4, tzinfo=UTC)


def test_a_whole_load_uses_no_range_and_leaves_no_placeholder() -> None:
    text = controls.statement(None)
    assert not _RANGE.search(text)
    assert "{" not in text
    assert "metric_date = any" not in text


def test_single_days_leave_no_placeholder() -> None:
    text = controls.statement([date(2026, 1, 1)])
    assert "{" not in text
    assert "metric_date = any(array['2026-01-01']::date[])" in text
