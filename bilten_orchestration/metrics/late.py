"""Which published days are stale, and in which runs late ones are built. Rules alone: no store, no Dagster.

A published day is stale when a day that reaches into it was touched by a batch newer than the one that it
shows. A day that was never published is not stale: nobody reads it, and whenever it is built it is built
from what is there then. A dirty day is clean again when it is published and no published day in its reach
is stale because of it.

Open days come by the schedules. The sensor takes closed days, and only for what has happened on closed
days: else each purchase of today would have yesterday built again.

Clicks make no day dirty. The daily run builds the newest closed days again for them; a day that it has not
built since its last click could come, because runs were missed, is taken by the sensor as well. So is a day
that is provisional still because a transaction of its time was open, once that has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    """One run: a contiguous range, and what is behind it, as `late_days` tells it."""

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
    """What a mart shows: batch and moment of each published day.

    `reach`: how far a changed day reaches into it. `provisional` are published days that are not final.
    """

    mart: str
    reach: Reach
    batches: Mapping[date, int]
    as_of: Mapping[date, datetime]
    provisional: Collection[date] = ()


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


def days_without_late_clicks(marts: Iterable[Shown], *, at: datetime) -> dict[date, int]:
    """Days that some mart shows as of before their last click could come, with the batch that is shown.

    Only those that the daily run does not reach any more.
    """
    newest = day_rules.newest_over(at) - day_rules.DAY * day_rules.CLOSED_DAYS
    return {
        day: mart.batches[day]
        for mart in marts
        for day, as_of in mart.as_of.items()
        if day <= newest and as_of < day_rules.clicks_in_at(day)
    }


def settled_days(marts: Iterable[Shown], *, at: datetime, settled_until: datetime) -> dict[date, int]:
    """Days that some mart shows as provisional and would be final now, with the batch that is shown.

    Only those that the daily run does not reach any more. `settled_until` (UTC) is that of the newest batch.
    """
    newest = min(
        day_rules.newest_over(at) - day_rules.DAY * day_rules.CLOSED_DAYS,
        day_rules.newest_over(settled_until),
    )
    return {day: mart.batches[day] for mart in marts for day in mart.provisional if day <= newest}


def late_days(
    dirty: Iterable[DirtyDay], marts: Sequence[Shown], *, at: datetime, settled_until: datetime
) -> dict[date, list[str]]:
    """Days to be built again, in order, each with what is behind it.

    That is `day@generation` of a dirty day, `day@clicks of batch` of one that lacks late clicks, or
    `day@settled since batch` of one that can be final.
    """
    found = {
        day: [f"{cause.day}@{cause.generation}" for cause in causes]
        for day, causes in stale_days(dirty, marts).items()
    }
    for day, batch in days_without_late_clicks(marts, at=at).items():
        found.setdefault(day, []).append(f"{day}@clicks of {batch}")
    for day, batch in settled_days(marts, at=at, settled_until=settled_until).items():
        found.setdefault(day, []).append(f"{day}@settled since {batch}")
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
    settled_until: datetime,
    longest: int = LONGEST_RUN_DAYS,
    at_most: int = RUNS_PER_TICK,
) -> list[LateRun]:
    """At most `at_most` runs over closed days, none longer than `longest` days, the newest first."""
    closed = day_rules.newest_over(at)
    late = late_days(
        [cause for cause in dirty if cause.day <= closed], marts, at=at, settled_until=settled_until
    )
    runs = []
    for part in sorted(
        day_rules.ranges((day for day in late if day <= closed), longest=longest), reverse=True
    ):
        runs.append(LateRun(part, "+".join(sorted({cause for day in part.days for cause in late[day]}))))
    return runs[:at_most]
