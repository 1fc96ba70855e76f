"""The newest reading of every source, for whoever asks: the judge, the health API, the metrics.

Every source is read in a thread of its own, so that a store that hangs holds up nothing but itself, and no
answer waits for a store. A reading that is too old counts for nothing: then it is not known how things stand.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.observability.finding import Finding, Reading
from bilten_orchestration.progress import Progress

#: A reading counts for so many intervals, and this much longer.
_INTERVALS: Final = 3
_GRACE: Final = timedelta(seconds=30)


class Source(Protocol):
    """Something that can be read. `needs`: stores without which it cannot be."""

    @property
    def name(self) -> str: ...

    @property
    def interval_seconds(self) -> float: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    def read(self) -> Reading:
        """Raises BiltenError where it cannot be told."""
        ...

    def overdue(self, began_at: datetime, now: datetime) -> Reading | None:
        """What it means that a reading that began then has not ended by now; None: nothing yet, or only
        that it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """`reading` as of `read_at`, None before the first. `problem` says why the newest attempt failed,
    `failing_since` when that began; `began_at` is set while one is under way."""

    source: str
    needs: tuple[str, ...]
    reading: Reading | None = None
    read_at: datetime | None = None
    took_seconds: float | None = None
    began_at: datetime | None = None
    problem: Problem | None = None
    failing_since: datetime | None = None
    fresh: bool = False


class Board:
    """Threads write their own source's entry; everybody reads."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = {source.name: source for source in sources}
        self._guard = threading.Lock()
        self._made_at = datetime.now(UTC)
        self._entries = {source.name: Entry(source.name, source.needs) for source in sources}

    def entries(self, now: datetime) -> Mapping[str, Entry]:
        """All of them as of now: a hanging reading as what it means, an old one as not known."""
        with self._guard:
            found = dict(self._entries)
        return {name: self._as_of(entry, now) for name, entry in found.items()}

    def change(self, name: str, change: Callable[[Entry], Entry]) -> None:
        with self._guard:
            self._entries[name] = change(self._entries[name])

    def _as_of(self, entry: Entry, now: datetime) -> Entry:
        source = self._sources[entry.source]
        if entry.began_at is not None:
            meant = source.overdue(entry.began_at, now)
            if meant is not None:
                return replace(entry, reading=meant, read_at=now, fresh=True)
        limit = timedelta(seconds=source.interval_seconds) * _INTERVALS + _GRACE
        fresh = entry.read_at is not None and now - entry.read_at <= limit
        if fresh or entry.problem is not None:
            return replace(entry, fresh=fresh)
        if now - (entry.read_at or self._made_at) <= limit:
            return replace(entry, fresh=False)
        return replace(
            entry,
            fresh=False,
            problem=Problem(
                f"{entry.source} could not be read",
                expected=f"an answer within {limit.total_seconds():.0f} s",
                found="none yet",
                next="bilten status",
            ),
            failing_since=entry.read_at or self._made_at,
        )


class Reader(threading.Thread):
    """Reads one source again and again until `stop`."""

    def __init__(self, board: Board, source: Source, stop: threading.Event, progress: Progress) -> None:
        super().__init__(name=f"read {source.name}", daemon=True)
        self._board, self._source, self._stop_asked, self._progress = board, source, stop, progress

    def run(self) -> None:
        while not self._stop_asked.is_set():
            self.turn()
            self._stop_asked.wait(self._source.interval_seconds)

    def turn(self) -> None:
        name = self._source.name
        began = time.monotonic()
        at = datetime.now(UTC)
        self._board.change(name, lambda entry: replace(entry, began_at=at))
        try:
            reading = self._source.read()
        except BiltenError as error:
            self._failed(error.problems[0])
        except Exception as error:  # noqa: BLE001 a defect in one source must not blind the others; it is told
            self._progress(traceback.format_exc())
            self._failed(
                Problem(
                    f"the watchdog cannot read {name}: {type(error).__name__}",
                    expected="a reading",
                    found=str(error)[:500],
                    next="bilten logs watchdog",
                )
            )
        else:
            took = time.monotonic() - began
            self._board.change(
                name,
                lambda entry: replace(
                    entry,
                    reading=reading,
                    read_at=datetime.now(UTC),
                    took_seconds=took,
                    began_at=None,
                    problem=None,
                    failing_since=None,
                ),
            )

    def _failed(self, problem: Problem) -> None:
        now = datetime.now(UTC)
        self._board.change(
            self._source.name,
            lambda entry: replace(
                entry, began_at=None, problem=problem, failing_since=entry.failing_since or now
            ),
        )


UNKNOWN: Final = "watchdog"
"""The source of findings about sources."""


def findings(
    entries: Mapping[str, Entry], now: datetime, *, patience: timedelta
) -> dict[str, tuple[Finding, ...]]:
    """By source, of those that could be read. One that could not be for `patience` is a finding itself,
    unless a store that it needs is down: that is told already."""
    found = {
        name: entry.reading.findings
        for name, entry in entries.items()
        if entry.fresh and entry.reading is not None
    }
    down = {
        name
        for name, entry in entries.items()
        if entry.fresh
        and entry.reading is not None
        and any(finding.kind == "store-down" for finding in entry.reading.findings)
    }
    unknown = []
    for name, entry in entries.items():
        if entry.fresh or entry.problem is None or entry.failing_since is None or down & set(entry.needs):
            continue
        if now - entry.failing_since >= patience:
            unknown.append(
                Finding(
                    f"unknown/{name}",
                    "source-unknown",
                    "warning",
                    Problem(
                        f"nobody knows how this stands: {name}",
                        expected=entry.problem.expected,
                        found=f"{entry.problem.what}: {entry.problem.found}",
                        next=entry.problem.next,
                    ),
                    since=entry.failing_since,
                )
            )
    return {**found, UNKNOWN: tuple(unknown)}
