"""Local days: which exist, which are over everywhere, which a changed day reaches.

A metric day is a local day of the event's organization, from UTC-12 to UTC+14. So on any UTC date
the day after tomorrow has begun nowhere, and a day is over everywhere at 12:00 UTC of the next day.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

DAY = timedelta(days=1)
OVER_AFTER = timedelta(hours=36)
AHEAD = timedelta(days=2)
# Clicks may come 72 hours late and dirty no day, and a funnel ends 24 hours after its view (docs/metrics.md).
# A day that was built before that is built again by the daily run, as one of the newest CLOSED_DAYS.
CLICKS_IN_AFTER = OVER_AFTER + timedelta(hours=72 + 24)
CLOSED_DAYS = 5


@dataclass(frozen=True, slots=True, order=True)
class DayRange:
    """A contiguous range, both ends included."""

    first: date
    last: date

    @property
    def days(self) -> tuple[date, ...]:
        return tuple(span(self.first, self.last))

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"


def span(first: date, last: date) -> list[date]:
    """Every day, both ends included; empty when `last` is before `first`."""
    return [first + DAY * offset for offset in range((last - first).days + 1)]


def over_at(day: date) -> datetime:
    """The moment (UTC) from which the day is over in every zone."""
    return datetime.combine(day, time(), UTC) + OVER_AFTER


def is_over(day: date, at: datetime) -> bool:
    """Whether the day was over in every zone at that moment."""
    return at >= over_at(day)


def clicks_in_at(day: date) -> datetime:
    """The moment (UTC) from which no click can come any more that the day's marts show."""
    return datetime.combine(day, time(), UTC) + CLICKS_IN_AFTER


def newest_over(at: datetime) -> date:
    """The newest day that was over in every zone at that moment."""
    return (at.astimezone(UTC) - OVER_AFTER).date()


def last_day(at: datetime) -> date:
    """The last day that may be built: control totals reach this far ahead."""
    return at.astimezone(UTC).date() + AHEAD


def ranges(days: Iterable[date], *, longest: int | None = None) -> list[DayRange]:
    """Contiguous ranges in order, none longer than `longest` days."""
    found: list[DayRange] = []
    for day in sorted(set(days)):
        if (
            found
            and found[-1].last + DAY == day
            and (longest is None or (day - found[-1].first).days < longest)
        ):
            found[-1] = DayRange(found[-1].first, day)
        else:
            found.append(DayRange(day, day))
    return found


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a changed day reaches into the marts: days `back` before it and days `ahead` after it."""

    back: int = 0
    ahead: int = 0

    def widest(self, other: Reach) -> Reach:
        return Reach(max(self.back, other.back), max(self.ahead, other.ahead))

    def of(self, day: date) -> list[date]:
        """The days whose marts a change on `day` can change, in order."""
        return span(day - DAY * self.back, day + DAY * self.ahead)
