"""One drill under way: what it has found out so far, also when it does not come to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import MappingProxyType

from bilten_orchestration.drills.report import Proof, Seen


class Course:
    """Filled in by the drill of a way, turned into a DrillReport by the door, whatever happened in between.

    Made when the drill is ordered: the time to recover counts from then. `phases` are seconds by name, in the
    order in which they ended; a phase that is entered again adds up. `previous` are the rows per table of the
    last drill of this way, given by the door, `counts` those of this one; `previous_seen` and `seen` likewise
    (report.py). Seconds are those of `clock`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ordered = clock()
        self.phases: dict[str, float] = {}
        self.proofs: list[Proof] = []
        self.failed_phase: str | None = None
        self.rto_seconds: float | None = None
        self.backups: tuple[str, ...] = ()
        self.bucket: str | None = None
        self.reached_at: datetime | None = None
        self.reached_lsn: str | None = None
        self.restored_bytes: int = 0
        self.stored_bytes: int = 0
        self.figures: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.previous: Mapping[str, int] = MappingProxyType({})
        self.previous_seen: Seen | None = None
        self.seen: Seen | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times what is done within. Of phases within each other the innermost is the one that failed."""
        began = self._clock()
        try:
            yield
        except BaseException:
            self.failed_phase = self.failed_phase or name
            raise
        finally:
            self.took(name, self._clock() - began)

    def took(self, name: str, seconds: float) -> None:
        """For a phase that somebody else timed."""
        self.phases[name] = self.phases.get(name, 0.0) + seconds

    def ordered(self) -> None:
        """The time to recover counts from now: what came before (the point, digests of production) is what a
        drill needs, and who has lost a server does not."""
        self._ordered = self._clock()

    def prove(self, proof: Proof) -> None:
        self.proofs.append(proof)

    def first_query(self) -> None:
        """What was restored has answered: it serves again. Only the first one counts."""
        if self.rto_seconds is None:
            self.rto_seconds = self._clock() - self._ordered

    @property
    def ok(self) -> bool:
        """Nothing that was proven so far came out wrong; warnings are told and pass."""
        return all(proof.ok or proof.warns for proof in self.proofs)
