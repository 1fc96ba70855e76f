"""Rules of time zones, from the pinned tzdata package and never from the machine's own files.

A metric day is a local day, computed by PostgreSQL for rows and here for clicks. Zone rules change by law
and within the year (British Columbia gave up changing its clocks in 2026), and a system that was not
updated puts the hour before midnight on another day. The lock file pins one version for every machine.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FIRST: Final = int(datetime(1970, 1, 1, tzinfo=UTC).timestamp())
_LAST: Final = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
_WEEK: Final = 7 * 86_400


@lru_cache(1)
def names() -> frozenset[str]:
    """All IANA names, links included."""
    return frozenset((resources.files("tzdata") / "zones").read_text("utf-8").split())


@lru_cache(1024)
def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name. Raises ZoneInfoNotFoundError."""
    if name not in names():
        raise ZoneInfoNotFoundError(f"no time zone {name!r} in the tzdata package")
    with resources.files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as rules:
        return ZoneInfo.from_file(rules, key=name)


@lru_cache(1024)
def changes(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """When the clocks of that zone changed from 1970 to 2100, and how far they were ahead of UTC.

    Two tuples in seconds, `at` and `offset`: offset[i] holds from at[i - 1] until before at[i], so there is
    one offset more. Raises ZoneInfoNotFoundError.
    """
    rules = zone(name)

    def ahead(seconds: int) -> int:
        return int((datetime.fromtimestamp(seconds, rules).utcoffset() or timedelta()).total_seconds())

    at: list[int] = []
    offset = [ahead(_FIRST)]
    for start in range(_FIRST, _LAST, _WEEK):  # no clocks change twice within a week
        if ahead(start + _WEEK) == offset[-1]:
            continue
        before, after = start, start + _WEEK
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if ahead(middle) == offset[-1] else (before, middle)
        at.append(after)
        offset.append(ahead(after))
    return tuple(at), tuple(offset)
