"""What the page shows of the past: one cell per day and subject, and how much is stored. No I/O.

Days are those of UTC. A cell is made from evidence: backups and drills in the repository, days of marts in
ClickHouse, and the watchdog's own samples of what has no other trace. A day without evidence is not good: it
is `bad` where something was due, `not_yet` where nothing was, and `unknown` where the evidence would be gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal

DAYS: Final = 30
#: A promise is sampled so often.
SAMPLE_SECONDS: Final = 60
_MOST: Final = 0.9
_MUCH: Final = 0.05

State = Literal["good", "partly", "bad", "not_yet", "unknown"]


@dataclass(frozen=True, slots=True)
class Cell:
    """`said` in a few words, without secrets. `first_holds`: what was recorded of that day before stays, for
    evidence that retention removes says less every day."""

    subject: str
    day: date
    state: State
    said: str
    first_holds: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """How much was stored, by the newest look of that day."""

    subject: str
    day: date
    bytes: int


@dataclass(frozen=True, slots=True)
class Samples:
    """How a promise stood at the looks of one day: how many of them found it so."""

    kept: int = 0
    missed: int = 0
    unknown: int = 0
    not_yet: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """Everything of the last `DAYS`, by subject and day. `installed_at` is None where nobody knows."""

    cells: Mapping[tuple[str, date], Cell] = field(default_factory=dict)
    levels: Mapping[tuple[str, date], Level] = field(default_factory=dict)
    installed_at: datetime | None = None

    def cell(self, subject: str, day: date) -> Cell:
        """What is known of a day, which may be nothing."""
        found = self.cells.get((subject, day))
        if found is not None:
            return found
        if self.installed_at is not None and begin_of(day) + timedelta(days=1) <= self.installed_at:
            return Cell(subject, day, "not_yet", "before the installation")
        return Cell(subject, day, "unknown", "nothing is recorded")


def last_days(now: datetime) -> list[date]:
    """The days that are shown, the oldest first; the last one is today."""
    today = now.astimezone(UTC).date()
    return [today - timedelta(days=back) for back in reversed(range(DAYS))]


def begin_of(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def of_samples(subject: str, day: date, samples: Samples, *, since: datetime, now: datetime) -> Cell:
    """`since`: when looks began at all; a day that nobody looked at for a tenth of its time is not good."""
    known = samples.kept + samples.missed
    begin, end = max(begin_of(day), since), min(begin_of(day + timedelta(days=1)), now)
    expected = max(0.0, (end - begin).total_seconds() / SAMPLE_SECONDS - 2)
    minutes = f"{samples.missed * SAMPLE_SECONDS // 60} min missed, {known * SAMPLE_SECONDS // 60} min known"
    if not known:
        state: State = "not_yet" if samples.not_yet and not samples.unknown else "unknown"
        return Cell(subject, day, state, "not due yet" if state == "not_yet" else "nobody knows")
    if samples.missed:
        return Cell(subject, day, "bad" if samples.missed > _MUCH * known else "partly", minutes)
    if known + samples.not_yet < _MOST * expected:
        return Cell(subject, day, "partly", f"kept as far as known: {minutes}")
    return Cell(subject, day, "good", f"kept: {minutes}")
