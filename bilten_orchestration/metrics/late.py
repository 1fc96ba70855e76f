"""Which published days are stale, and in which runs late ones are built. Rules alone: no store, no Dagster.

A published day is stale when a day that reaches into it was touched by a batch newer than the one that it
shows. A day that was never published is not stale: nobody reads it, and whenever it is built it is built
from what is there then. A dirty day is clean again when it is published and no published day in its reach
is stale because of it.

Open days come by the schedules. The sensor takes closed days, and only for what has happened on closed
days: else each purchase of today would have yesterday built again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics.days import DayRange, Reach

LONGEST_RUN_DAYS = 62
RUNS_PER_TICK = 3
KEY_LENGTH = 100


@dataclass(frozen=True, slots=True)
class DirtyDay:
    """A day whose facts changed: the batch that touched it last, and why."""

    day: date
    generation: int
    batch: int
    reason: str


@dataclass(frozen=True, slots=True)
class LateRun:
    """One run: a contiguous range, and the dirty days behind it as `day@generation`."""

    days: DayRange
    dirty: str

    @property
    def key(self) -> str:
        """Changes with the generations alone: a range that was refused waits until its facts have changed."""
        if len(self.dirty) <= KEY_LENGTH:
            return self.dirty
        return hashlib.sha256(self.dirty.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a mart shows: the batch of each published day. `reach`: how far a changed day reaches into it."""

    mart: str
    reach: Reach
    batches: Mapping[date, int]


def stale_days(dirty: Iterable[DirtyDay], marts: Sequence[Shown]) -> dict[date, list[DirtyDay]]:
    """Days that some mart shows as they were before, in order, each with the dirty days behind it."""
    found: dict[date, list[DirtyDay]] = {}
    for cause in dirty:
        days = {
            day
            for mart in marts
            for day in mart.reach.of(cause.day)
            if mart.batches.get(day, cause.batch) < cause.batch
        }
        for day in days:
            found.setdefault(day, []).append(cause)
    return dict(sorted(found.items()))


def needed_batches(dirty: Iterable[DirtyDay], reach: Reach) -> dict[date, int]:
    """The batch that a day has to show, or a newer one, where dirty days reach into it."""
    needed: dict[date, int] = {}
    for cause in dirty:
        for day in reach.of(cause.day):
            needed[day] = max(needed.get(day, 0), cause.batch)
    return needed


def clean_days(dirty: Iterable[DirtyDay], marts: Sequence[Shown]) -> list[DirtyDay]:
    """Days that every mart shows, whose changes every published day in their reach shows."""
    causes = list(dirty)
    behind = {cause.day for held in stale_days(causes, marts).values() for cause in held}
    return [
        cause
        for cause in causes
        if cause.day not in behind and all(cause.day in mart.batches for mart in marts)
    ]


def late_runs(
    dirty: Sequence[DirtyDay],
    marts: Sequence[Shown],
    *,
    at: datetime,
    longest: int = LONGEST_RUN_DAYS,
    at_most: int = RUNS_PER_TICK,
) -> list[LateRun]:
    """At most `at_most` runs over closed days, none longer than `longest` days, the newest first."""
    closed = day_rules.newest_over(at)
    stale = stale_days([cause for cause in dirty if cause.day <= closed], marts)
    runs = []
    for part in sorted(
        day_rules.ranges((day for day in stale if day <= closed), longest=longest), reverse=True
    ):
        causes = {cause.day: cause for day in part.days for cause in stale[day]}
        text = "+".join(f"{day}@{cause.generation}" for day, cause in sorted(causes.items()))
        runs.append(LateRun(part, text))
    return runs[:at_most]
