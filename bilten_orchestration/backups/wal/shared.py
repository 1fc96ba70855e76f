"""What the two threads of the stream of WAL tell each other."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.backups.wal.heartbeat import Beats
from bilten_orchestration.backups.wal.receiver import Spool
from bilten_orchestration.errors import Problem

TICK_SECONDS = 1.0
# an outage of a day, at a sample a minute and bucket
_KEPT_SAMPLES = 3000


@dataclass(frozen=True, slots=True)
class Source:
    """The server that WAL is of."""

    system_identifier: str
    segment_bytes: int
    major: int
    spool: Spool


@dataclass(frozen=True, slots=True)
class Written:
    """Up to where pg_receivewal has written, by its own word of that time (this machine's clock)."""

    position: int
    told_at: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    at: datetime
    bucket: str
    reachable_until: datetime | None
    rpo_seconds: float | None


class Shared:
    """What one thread tells the other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.source: Source | None = None
        self.beats = Beats()
        self.written: Written | None = None
        self.clock_ahead_seconds = 0.0
        self.advance_to: int | None = None
        self.samples: deque[Sample] = deque(maxlen=_KEPT_SAMPLES)
        self.problems: dict[str, Problem] = {}
        self.halted = threading.Event()

    def tell(self, part: str, problem: Problem | None) -> None:
        """What is wrong with a part, or that nothing is."""
        with self.lock:
            if problem is None:
                self.problems.pop(part, None)
            else:
                self.problems[part] = problem

    def told(self) -> tuple[Problem, ...]:
        with self.lock:
            return tuple(self.problems.values())
