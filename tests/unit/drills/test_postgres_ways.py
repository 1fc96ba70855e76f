"""The random moment: within what can be restored, and the same all day. What `second_bucket` can reach."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bilten_orchestration.drills.postgres.ways import moment, without_first
from bilten_orchestration.errors import Refused
from bilten_orchestration.settings import ObjectStoreSettings, Settings

NOW = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def _past(*spans: tuple[datetime, datetime]) -> Any:
    found = [SimpleNamespace(begin=begin, to=to) for begin, to in spans]
    return SimpleNamespace(timeline=1, spans=lambda timeline: found)


def test_a_repeated_run_takes_the_same_moment() -> None:
    first = moment(_past((NOW - 20 * DAY, NOW)), NOW)
    later = moment(_past((NOW - 20 * DAY, NOW + DAY / 4)), NOW + DAY / 4)
    assert first == later
    assert moment(_past((NOW - 20 * DAY, NOW + DAY)), NOW + DAY) != first


def test_it_lies_within_the_window_and_in_no_gap() -> None:
    for number in range(200):
        now = NOW + number * DAY
        past = _past((now - 30 * DAY, now - 6 * DAY), (now - 2 * DAY, now - 1.5 * DAY))
        ago = now - moment(past, now)
        assert 6 * DAY <= ago < 8 * DAY or 1.5 * DAY <= ago <= 2 * DAY


def test_every_part_of_the_window_has_its_day() -> None:
    found = set()
    for number in range(60):
        now = NOW + number * DAY
        ago = now - moment(_past((now - 30 * DAY, now)), now)
        assert timedelta(0) < ago < 8 * DAY
        found.add(ago.days)
    assert found >= {1, 2, 3, 4, 5, 6}


def test_on_the_first_day_it_lies_before_now() -> None:
    assert NOW - DAY / 24 <= moment(_past((NOW - DAY / 24, NOW)), NOW) <= NOW


@pytest.mark.parametrize("spans", [[], [(NOW - 30 * DAY, NOW - 20 * DAY)]])
def test_nothing_to_go_back_to(spans: list[tuple[datetime, datetime]]) -> None:
    with pytest.raises(Refused, match="no moment to go back to"):
        moment(_past(*spans), NOW)


def test_the_second_bucket_stands_alone() -> None:
    store = ObjectStoreSettings(
        endpoint_url="http://first:1", copy_endpoint_url="http://second:2", copy_region="elsewhere"
    )
    alone = without_first(Settings(object_store=store)).object_store
    assert alone.bucket_backups == alone.bucket_backups_copy == store.bucket_backups_copy
    assert str(alone.endpoint_url) == str(alone.of_copy.endpoint_url) == "http://second:2"
    assert "first" not in str(alone.model_dump())
