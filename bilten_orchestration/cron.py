"""When a schedule ticks, from its cron expression (UTC), for who must not import Dagster to know it.

Only what our schedules use: numbers, *, lists, ranges and steps, with * for
day of month and month. A test compares it with Dagster's own reading of every schedule in the tables of
backups and drills.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)


def ticks(expression: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """Every tick later than `after` and not later than `until`, in order. Raises ValueError for what is
    not understood."""
    minutes, hours, weekdays = _fields(expression)
    at = after.astimezone(UTC).replace(second=0, microsecond=0) + _MINUTE
    while at <= until:
        if at.isoweekday() % 7 not in weekdays or at.hour not in hours:
            at = at.replace(minute=0) + _HOUR
        elif at.minute not in minutes:
            at += _MINUTE
        else:
            yield at
            at += _MINUTE


def first_after(expression: str, after: datetime) -> datetime:
    """The first tick later than `after`."""
    return next(ticks(expression, after, after + timedelta(days=8)))


@cache
def _fields(expression: str) -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    """Minutes, hours and days of the week (0 is Sunday)."""
    parts = expression.split()
    if len(parts) != 5 or parts[2:4] != ["*", "*"]:
        raise ValueError(f"a schedule of other than minutes, hours and days of the week: {expression!r}")
    return _field(parts[0], 59), _field(parts[1], 23), frozenset(day % 7 for day in _field(parts[4], 7))


def _field(text: str, highest: int) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        low, dash, high = span.partition("-")
        first, last = (0, highest) if span == "*" else (int(low), int(high) if dash else int(low))
        if not 0 <= first <= last <= highest:
            raise ValueError(f"not within 0 and {highest}: {item!r}")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)
