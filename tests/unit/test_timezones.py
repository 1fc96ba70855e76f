from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfoNotFoundError

import pytest

from bilten_orchestration.timezones import names, zone


def test_rules_are_the_pinned_ones_and_not_the_machines() -> None:
    # British Columbia stays at UTC-7; what systems carried in 2025 goes back to UTC-8 in November
    assert datetime(2026, 12, 1, tzinfo=UTC).astimezone(zone("America/Vancouver")).utcoffset() == timedelta(
        hours=-7
    )


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../zoneinfo/UTC", "/etc/localtime", "europe/berlin"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        zone(name)


def test_every_name_has_its_rules() -> None:
    assert len(names()) > 500
    assert all(zone(name).key == name for name in names())
