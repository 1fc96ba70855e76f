"""Local time: zones with their changes, and when people buy.

Conversions are by arrays, with the changes of a zone as `timezones` pins them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bilten_orchestration import timezones
from bilten_orchestration.demo.plan import DAY, HOUR, MINUTE, SECOND, Bools, Floats, Ints, pick

# Share of orders per local hour: a trough at night, lunch, and the evening on the sofa.
HOURS_WEEKDAY = (
    1.2,
    0.6,
    0.4,
    0.3,
    0.3,
    0.5,
    1.2,
    2.4,
    3.8,
    4.6,
    5.2,
    5.4,
    6.4,
    5.8,
    5.0,
    4.8,
    5.0,
    5.6,
    6.2,
    7.6,
    9.0,
    8.8,
    6.2,
    3.7,
)
HOURS_WEEKEND = (
    2.2,
    1.3,
    0.8,
    0.5,
    0.4,
    0.4,
    0.8,
    1.6,
    3.0,
    4.8,
    6.2,
    6.8,
    6.6,
    6.4,
    6.2,
    6.0,
    5.8,
    5.6,
    5.4,
    5.8,
    6.8,
    6.8,
    5.4,
    3.4,
)
WEEKDAYS = (0.98, 0.94, 0.97, 1.10, 1.25, 0.88, 0.88)
"""Monday to Sunday: pay day and plans for the weekend."""
MONTHS_NORTH = (0.7, 0.75, 0.9, 1.0, 1.15, 1.35, 1.4, 1.2, 1.1, 1.05, 0.95, 1.1)
"""Events per month north of the equator; the south is half a year off."""


@dataclass(frozen=True, slots=True)
class Zone:
    """`at[i]`: instant (us) from which `offset[i + 1]` holds; before at[0], offset[0]."""

    name: str
    at: Ints
    offset: Ints

    def to_local(self, instants: Ints) -> Ints:
        return instants + self.offset[np.searchsorted(self.at, instants, side="right")]

    def to_utc(self, local: Ints) -> Ints:
        """A repeated hour means its first run; a skipped one the hour after."""
        return local - self.offset[np.searchsorted(self.at + self.offset[:-1], local, side="right")]


@lru_cache(maxsize=128)
def zone(name: str) -> Zone:
    """Changes of a zone, to the second. Raises ZoneInfoNotFoundError for unknown names."""
    at, offset = timezones.changes(name)
    return Zone(name, np.array(at, dtype=np.int64) * SECOND, np.array(offset, dtype=np.int64) * SECOND)


def by_zone(names: list[str], codes: Ints, values: Ints, *, to_utc: bool) -> Ints:
    """Convert each value in the zone names[code]."""
    out = np.empty_like(values)
    for code in np.unique(codes):
        rows = codes == code
        rules = zone(names[int(code)])
        out[rows] = rules.to_utc(values[rows]) if to_utc else rules.to_local(values[rows])
    return out


def weekday(local: Ints) -> Ints:
    """0 is Monday (1970-01-01 was a Thursday)."""
    return (local // DAY + 3) % 7


def order_times(rng: np.random.Generator, opens: Ints, closes: Ints, spike: Floats) -> Ints:
    """Local moments of orders between `opens` and `closes` (local microseconds, one pair per order).

    A share `spike` comes in the first two days, most of it in the first hours; 30 % in the last days before
    the close; the rest between, all of it along the week and the day.
    """
    count = len(opens)
    span = np.maximum(closes - opens, HOUR)
    kind = rng.random(count)
    rush = (rng.exponential(0.06, count) * span).astype(np.int64)
    first = np.minimum(rng.exponential(5 * HOUR, count).astype(np.int64), 2 * DAY)
    moments = opens + (rng.beta(0.9, 1.1, count) * span).astype(np.int64)
    moments = np.where(kind > 0.70, closes - rush, moments)
    shaped = _along_the_week(rng, moments)
    at_opening = kind < spike
    moments = np.where(at_opening, opens + first, shaped)
    outside: Bools = (moments < opens) | (moments >= closes)
    again = opens + (rng.random(count) * span * 0.999).astype(np.int64)
    return np.where(outside, np.minimum(again, closes - MINUTE), moments)


def _along_the_week(rng: np.random.Generator, moments: Ints) -> Ints:
    day = moments // DAY
    moved = day - (day + 3) % 7 + pick(rng, WEEKDAYS, len(moments))
    weekend = (moved + 3) % 7 >= 5
    hour = np.where(weekend, pick(rng, HOURS_WEEKEND, len(moments)), pick(rng, HOURS_WEEKDAY, len(moments)))
    shaped: Ints = moved * DAY + hour * HOUR + (rng.random(len(moments)) * HOUR).astype(np.int64)
    return shaped
