"""Which closed days have changed late, and in which runs they are built. Rules alone: no store, no Dagster.

Open days come by the schedules. A day that is older than everything published was never asked for: it is
built by hand or by a backfill, and stays dirty until then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics.days import DayRange, Reach

LONGEST_RUN_DAYS = 62
RUNS_PER_TICK = 3
KEY_LENGTH = 100


@dataclass(frozen=True, slots=True)
class DirtyDay:
    """A day that waits to be built, with what touched it last."""

    day: date
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class LateRun:
    """One run: a contiguous range, the dirty days in it as `day@generation`, and a key made of them."""

    days: DayRange
    dirty: str

    @property
    def key(self) -> str:
        if len(self.dirty) <= KEY_LENGTH:
            return self.dirty
        return hashlib.sha256(self.dirty.encode()).hexdigest()


def late_runs(
    dirty: Sequence[DirtyDay],
    reach: Reach,
    *,
    published_from: date,
    first: date,
    at: datetime,
    longest: int = LONGEST_RUN_DAYS,
    at_most: int = RUNS_PER_TICK,
) -> list[LateRun]:
    """At most `at_most` runs, the newest days first; `first` is the first day that may be built.

    The key changes with the generations alone, so a range that was refused is tried again when its facts
    have changed, and not before.
    """
    late = [found for found in dirty if published_from <= found.day <= day_rules.newest_over(at)]
    last = day_rules.last_day(at)
    reached = {day for found in late for day in reach.of(found.day, first=first, last=last)}
    runs = []
    for part in sorted(day_rules.ranges(reached, longest=longest), reverse=True):
        inside = [found for found in late if part.first <= found.day <= part.last]
        if inside:
            runs.append(LateRun(part, "+".join(f"{found.day}@{found.generation}" for found in inside)))
    return runs[:at_most]
