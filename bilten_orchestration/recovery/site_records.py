"""What the repository itself tells of the past, from the second bucket back into the first: what drills
proved, and the journal of what was done.

Before anything else is written into the first bucket, for both are series that go on there: a drill that
found none would begin another chain, and the next copy of it would make the chain fork for ever.

Documents are small, signed and never changed. One that is there is not copied again, so a kill leaves some of
them, and the next call brings the others; of one that is there with other bytes `bilten backup copy` tells.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from bilten_orchestration.backups.copies import plan
from bilten_orchestration.backups.copies.checked_copy import side_by_side
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

#: Of everything that lies beside backups; WAL and archives of partitions are read where they are.
_RECORDS = ("drills/", "journal/")
_AT_ONCE = 8
# the first bucket may be gone for good: then that is said at the end, and nothing waits for it
_PATIENCE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Records:
    """`copied` documents; `problems` are those that somebody else wrote meanwhile, or took away."""

    copied: int
    problems: tuple[Problem, ...]


def copy_back(settings: Settings, progress: Progress) -> Records:
    """Raises StoreUnavailable and AccessRefused, of either bucket, Mismatch where there is no first one."""
    with (
        Opened.of(settings, new=False, patience_seconds=_PATIENCE_SECONDS) as first,
        Opened.of(settings, new=False, bucket="copy") as second,
    ):
        found = _Copied(second.repository, first.repository)
        for prefix in _RECORDS:
            missing = plan.missing_below(second.repository, first.repository, prefix)
            side_by_side((piece.name for piece in missing), found.one, _AT_ONCE, threading.Event())
    if found.copied:
        progress(f"{found.copied:,} documents of drills and of the journal copied back into the first bucket")
    return Records(found.copied, tuple(found.problems))


class _Copied:
    def __init__(self, source: Repository, target: Repository) -> None:
        self._source, self._target = source, target
        self._guard = threading.Lock()
        self.copied = 0
        self.problems: list[Problem] = []

    def one(self, name: str) -> None:
        try:
            self._target.write_small(name, self._source.read_small(name))
        except Mismatch as error:
            with self._guard:
                self.problems += error.problems
            return
        with self._guard:
            self.copied += 1
