"""What a source says: something is wrong (a finding), or how a promise stands (a promise).

A finding has a stable key: the same trouble has the same key in every reading, whatever numbers it shows, so
that it is one incident. Its kind names the section of docs/operations.md that says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.history import Cell, Level
from bilten_orchestration.observability.series import Sample

Severity = Literal["info", "warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")

Kind = Literal[
    "store-down",
    "run-failed",
    "run-stuck",
    "run-never-started",
    "check-failed",
    "asset-not-fresh",
    "tick-failed",
    "daemon-silent",
    "code-location",
    "disk-full",
    "wal-not-taken",
    "wal-slot",
    "wal-heartbeat",
    "rpo-missed",
    "drill-promise",
    "backup-overdue",
    "mart-not-fresh",
    "sync-lag",
    "search-lag",
    "partitions-ahead",
    "source-unknown",
]

KINDS: Final[dict[Kind, str]] = {
    "store-down": "a store does not answer, or does not let us in",
    "run-failed": "a Dagster run failed, and nothing after it made up for it",
    "run-stuck": "a run goes on for too long, or does not end after it was canceled",
    "run-never-started": "a run waits to start for too long",
    "check-failed": "an asset check failed when it was last evaluated",
    "asset-not-fresh": "an asset was not made anew within the time that its policy gives it",
    "tick-failed": "a schedule or sensor failed when it was last evaluated",
    "daemon-silent": "Dagster's daemon sends no heartbeats: nothing is scheduled",
    "code-location": "Dagster's definitions do not load: there is nothing to schedule or run",
    "disk-full": "a disk is filling up",
    "wal-not-taken": "the stream of WAL has trouble, or is not there",
    "wal-slot": "a replication slot was lost, or keeps too much WAL",
    "wal-heartbeat": "no heartbeat is committed: nobody knows until when WAL reaches",
    "rpo-missed": "more would be lost now than is promised",
    "drill-promise": "the newest restore drills do not keep what is promised",
    "backup-overdue": "the newest backup is older than its schedule allows, or was altered",
    "mart-not-fresh": "the newest closed day of a mart is not published as final",
    "sync-lag": "ClickHouse is behind PostgreSQL",
    "search-lag": "the search index is behind PostgreSQL",
    "partitions-ahead": "too few partitions are ready ahead",
    "source-unknown": "the watchdog cannot find out how something stands",
}
"""Every kind of finding, in a few words; docs/operations.md has a section for each."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong now.

    `lasting`: it was recorded by somebody (a run, a check), so that it is an incident at once; else it was
    measured, and is one once it has lasted. `step` rises when it gets worse within its severity. `since` is
    None where only its first sight tells. `link` leads into Dagster's UI.
    """

    key: str
    kind: Kind
    severity: Severity
    problem: Problem
    since: datetime | None = None
    owner: str = ""
    step: int = 0
    link: str = ""
    lasting: bool = False

    @property
    def weight(self) -> tuple[int, int]:
        """Comparable: how bad it is."""
        return SEVERITIES.index(self.severity), self.step


@dataclass(frozen=True, slots=True)
class Promise:
    """How something promised stands: `value` against `limit`, both in `unit`. `kept` is None where nobody
    knows, which counts as not kept. `least`: the value must be at least the limit, else at most. `not_due`: a
    new installation has had no time for it (installed.py), which is neither kept nor missed."""

    name: str
    kept: bool | None
    value: float | None
    limit: float
    unit: str
    detail: str = ""
    least: bool = False
    not_due: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """All that a source found at one time. `detail` in a few words, for people. `cells` and `levels` are for
    the page's history, `samples` for /metrics."""

    findings: tuple[Finding, ...] = ()
    promises: tuple[Promise, ...] = ()
    detail: str = ""
    cells: tuple[Cell, ...] = ()
    levels: tuple[Level, ...] = ()
    samples: tuple[Sample, ...] = ()


def steps(count: float) -> int:
    """A step for each factor of ten: 1, 10, 100 of something are each worse than what was before."""
    found = 0
    while count >= 10:
        count /= 10
        found += 1
    return found
