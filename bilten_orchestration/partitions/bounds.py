"""Periods of the calendar as half-open ranges in UTC, whatever zone the machine or the session is in.

A month, a week (ISO: from Monday) or a day. UTC has no daylight saving, so every day has 24 hours and periods
touch exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from bilten_orchestration.errors import UsageError

Interval = Literal["month", "week", "day"]
INTERVALS: tuple[Interval, ...] = ("month", "week", "day")
#: A partition of the period is named <table>_<suffix>; the longest suffix is that of a day.
LONGEST_SUFFIX = len("_p20260131")

_WRITTEN: dict[Interval, tuple[re.Pattern[str], str]] = {
    "month": (re.compile(r"(\d{4})-(\d{2})"), "2026-01"),
    "week": (re.compile(r"(\d{4})-W(\d{2})"), "2026-W05"),
    "day": (re.compile(r"(\d{4})-(\d{2})-(\d{2})"), "2026-01-31"),
}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """`first` is its first day; `start` inclusive, `end` exclusive. Made by `of` or `parse`."""

    first: date
    interval: Interval = "month"

    def __post_init__(self) -> None:
        if self.first != _first(self.first, self.interval):
            raise ValueError(f"no {self.interval} begins on {self.first}")

    @classmethod
    def of(cls, day: date, interval: Interval = "month") -> Period:
        """The period that a day lies in. A datetime must know its zone; its UTC day counts."""
        if isinstance(day, datetime):
            if day.tzinfo is None:
                raise ValueError(f"{day!r} has no time zone")
            day = day.astimezone(UTC).date()
        return cls(_first(day, interval), interval)

    @classmethod
    def parse(cls, text: str, interval: Interval) -> Period:
        """As `str` writes it: 2026-01, 2026-W05, 2026-01-31. Raises UsageError."""
        pattern, example = _WRITTEN[interval]
        if match := pattern.fullmatch(text.strip()):
            numbers = [int(number) for number in match.groups()]
            try:
                if interval == "week":
                    return cls(date.fromisocalendar(numbers[0], numbers[1], 1), interval)
                return cls(date(numbers[0], numbers[1], numbers[2] if interval == "day" else 1), interval)
            except ValueError:
                pass
        raise UsageError(
            f"{text} is no {interval}", expected=example, found=text, next="bilten partitions list shows them"
        )

    def plus(self, periods: int) -> Period:
        if self.interval != "month":
            days = periods * (7 if self.interval == "week" else 1)
            return Period(self.first + timedelta(days=days), self.interval)
        year, month = divmod(self.first.year * 12 + self.first.month - 1 + periods, 12)
        return Period(date(year, month + 1, 1))

    @property
    def start(self) -> datetime:
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        return self.plus(1).start

    @property
    def suffix(self) -> str:
        """Of its partition's name: p202601, p2026w05, p20260131."""
        if self.interval == "week":
            year, week, _ = self.first.isocalendar()
            return f"p{year:04d}w{week:02d}"
        return f"p{self.first.year:04d}{self.first.month:02d}" + (
            f"{self.first.day:02d}" if self.interval == "day" else ""
        )

    def __str__(self) -> str:
        if self.interval == "week":
            year, week, _ = self.first.isocalendar()
            return f"{year:04d}-W{week:02d}"
        return str(self.first) if self.interval == "day" else f"{self.first:%Y-%m}"


def periods(first: Period, last: Period) -> Iterator[Period]:
    """Both ends included; nothing when `first` is after `last`."""
    while first <= last:
        yield first
        first = first.plus(1)


def literal(moment: datetime) -> str:
    """A timestamptz literal that means the same in every session zone."""
    return f"'{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00'"


def _first(day: date, interval: Interval) -> date:
    if interval == "month":
        return date(day.year, day.month, 1)
    return day - timedelta(days=day.weekday()) if interval == "week" else day
