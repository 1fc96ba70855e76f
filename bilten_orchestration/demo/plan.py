"""What is to be generated, and the random streams it is drawn from.

Everything follows from (seed, scale, today): each stream is named, so that a part can be generated again
alone (the clickstream reads the orders of a block of events long after they were loaded), and in any order.
No fact lies at or after `cutoff`, 00:00 UTC of `today`: the clock of the machine decides nothing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NONE = int(np.iinfo(np.int64).min)
"""A timestamp that is null."""

EVENTS_PER_BLOCK = 100
"""Events generated and copied at a time: bounds memory at any scale (about 8,000 orders)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`scale` 1 is 60 organizations, 1,500 events, 120,000 payments, 3 million clickstream rows.

    Small scales keep enough organizations and events that every trait of the trade is there.
    """

    seed: int
    scale: float
    today: date

    @property
    def organizations(self) -> int:
        return max(15, round(60 * self.scale))

    @property
    def events(self) -> int:
        return max(60, round(1_500 * self.scale))

    @property
    def payments(self) -> int:
        return max(600, round(120_000 * self.scale))

    @property
    def buyers(self) -> int:
        return max(400, round(42_000 * self.scale))

    @property
    def clicks(self) -> int:
        """Clickstream rows aimed at; met within some percent."""
        return max(5_000, round(3_000_000 * self.scale))

    @property
    def cutoff(self) -> int:
        """Microseconds since 1970; every fact is before it."""
        return instant(self.today)

    @property
    def first_event_day(self) -> date:
        """18 months back."""
        months = self.today.year * 12 + self.today.month - 1 - 18
        return date(months // 12, months % 12 + 1, 1)

    @property
    def first_day(self) -> date:
        """Half a year before the first event: the earliest row of anything."""
        months = self.today.year * 12 + self.today.month - 1 - 24
        return date(months // 12, months % 12 + 1, 1)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """Half-open ranges of event numbers."""
        return [
            (low, min(low + EVENTS_PER_BLOCK, self.events)) for low in range(0, self.events, EVENTS_PER_BLOCK)
        ]

    def stream(self, name: str, number: int = 0) -> np.random.Generator:
        """An independent generator; the same name and number always give the same draws."""
        entropy = [
            self.seed,
            round(self.scale * 1_000_000),
            self.today.toordinal(),
            zlib.crc32(name.encode()),
            number,
        ]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def instant(day: date) -> int:
    """Microseconds since 1970 of 00:00 UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND


def uuids(rng: np.random.Generator, count: int) -> Bytes:
    """(count, 16) bytes of version 4 UUIDs drawn from `rng`."""
    raw = np.frombuffer(rng.bytes(16 * count), dtype=np.uint8).reshape(count, 16).copy()
    raw[:, 6] = (raw[:, 6] & 0x0F) | 0x40
    raw[:, 8] = (raw[:, 8] & 0x3F) | 0x80
    return raw


def pick(rng: np.random.Generator, weights: npt.ArrayLike, count: int) -> Ints:
    """`count` indexes drawn by weight."""
    cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
    drawn: Ints = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    return drawn


def starts_of(counts: Ints) -> Ints:
    """Where each group begins when groups of these sizes lie one after the other."""
    return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64) if len(counts) else counts


def ranks(counts: Ints) -> Ints:
    """0, 1, 2 ... within each group of these sizes."""
    return np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(starts_of(counts), counts)
