from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilten_orchestration.demo import words
from bilten_orchestration.demo.localtime import order_times, weekday, zone
from bilten_orchestration.demo.plan import DAY, HOUR, MINUTE, SECOND
from bilten_orchestration.timezones import zone as ZoneInfo

ZONES = sorted({city.timezone for city in words.CITIES})


@settings(deadline=None)  # a busy machine is not a failure
@given(st.sampled_from(ZONES), st.datetimes(datetime(2015, 2, 1), datetime(2039, 12, 1)))
def test_local_time_is_that_of_zoneinfo(name: str, moment: datetime) -> None:
    aware = moment.replace(microsecond=0, tzinfo=UTC)
    instant = int(aware.timestamp()) * SECOND
    local = int(aware.astimezone(ZoneInfo(name)).replace(tzinfo=UTC).timestamp()) * SECOND
    assert zone(name).to_local(np.array([instant])).tolist() == [local]


@settings(deadline=None)  # a busy machine is not a failure
@given(st.sampled_from(ZONES), st.datetimes(datetime(2015, 2, 1), datetime(2039, 12, 1)))
def test_back_to_utc_takes_the_first_run_of_a_repeated_hour(name: str, wall: datetime) -> None:
    wall = wall.replace(microsecond=0)
    local = int(wall.replace(tzinfo=UTC).timestamp()) * SECOND
    found = int(zone(name).to_utc(np.array([local]))[0])
    there = wall.replace(tzinfo=ZoneInfo(name))
    if there.astimezone(UTC).astimezone(ZoneInfo(name)).replace(tzinfo=None) == wall:  # no skipped hour
        assert found == int(there.timestamp()) * SECOND
    else:
        assert abs(found - int(there.timestamp()) * SECOND) <= HOUR


@pytest.mark.parametrize(
    ("name", "offset"),
    [("Pacific/Honolulu", -600), ("Pacific/Apia", 780), ("Asia/Kolkata", 330), ("Asia/Kathmandu", 345)],
)
def test_the_extremes(name: str, offset: int) -> None:
    assert (
        zone(name).to_local(np.array([0 + 1_700_000_000 * SECOND])) - 1_700_000_000 * SECOND
        == offset * MINUTE
    )


def test_orders_stay_in_their_window_and_follow_the_week() -> None:
    rng = np.random.default_rng(1)
    opens = np.full(40_000, 20_000 * DAY)
    closes = opens + 84 * DAY
    moments = order_times(rng, opens, closes, np.full(40_000, 0.1))
    assert (moments >= opens).all()
    assert (moments < closes).all()
    per_day = np.bincount(weekday(moments), minlength=7)
    assert per_day[4] > 1.2 * per_day[6], "Friday sells more than Sunday"
    per_hour = np.bincount(moments % DAY // HOUR, minlength=24)
    assert per_hour[20] > 3 * per_hour[4], "the evening sells more than the night"
