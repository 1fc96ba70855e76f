"""Rules of time zones, from the pinned tzdata package and never from the machine's own files.

A metric day is a local day, computed by PostgreSQL for rows and here for clicks. Zone rules change by law
and within the year (British Columbia gave up changing its clocks in 2026), and a system that was not
updated puts the hour before midnight on another day. The lock file pins one version for every machine.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


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
