"""Months as half-open ranges in UTC, whatever zone the machine or the session is in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """One calendar month; `start` inclusive, `end` exclusive."""

    year: int
    month: int

    @classmethod
    def of(cls, day: date) -> Month:
        """The month of a day. A datetime must know its zone; its UTC day counts."""
        if isinstance(day, datetime):
            if day.tzinfo is None:
                raise ValueError(f"{day!r} has no time zone")
            day = day.astimezone(UTC)
        return cls(day.year, day.month)

    def plus(self, months: int) -> Month:
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(year, month + 1)

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        return self.plus(1).start

    @property
    def suffix(self) -> str:
        return f"p{self.year:04d}{self.month:02d}"

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


def months(first: Month, last: Month) -> Iterator[Month]:
    """Both ends included; nothing when `first` is after `last`."""
    while first <= last:
        yield first
        first = first.plus(1)


def literal(moment: datetime) -> str:
    """A timestamptz literal that means the same in every session zone."""
    return f"'{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00'"
