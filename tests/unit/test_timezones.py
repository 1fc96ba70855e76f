from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfoNotFoundError

import numpy as np
import pytest

from bilten_orchestration.timezones import changes, names, zone


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


def test_changes_are_those_of_the_rules_on_every_day() -> None:
    noons = range(43_200, int(datetime(2045, 1, 1, tzinfo=UTC).timestamp()), 86_400)
    hardest = [
        "Africa/Casablanca",
        "Africa/Cairo",
        "America/Vancouver",
        "Australia/Lord_Howe",
        "Pacific/Apia",
    ]
    rng = np.random.default_rng(1)
    for name in {*hardest, *rng.choice(sorted(names()), 15)}:
        rules = zone(str(name))
        at, offset = changes(str(name))
        found = np.array(offset)[np.searchsorted(np.array(at), np.array(noons), side="right")]
        wanted = [datetime.fromtimestamp(noon, rules).utcoffset() for noon in noons]
        assert [timedelta(seconds=int(seconds)) for seconds in found] == wanted, name


def test_a_change_holds_from_its_very_second() -> None:
    at, offset = changes("Europe/Berlin")
    change = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp())
    place = at.index(change)
    assert offset[place : place + 2] == (3_600, 7_200)


def test_a_zone_without_changes_has_one_offset() -> None:
    assert changes("UTC") == ((), (0,))
