"""Recoveries of rows that were begun and have no end in the journal: what became of them, told and written.

An entry lies in the bucket that its rows were restored from (journal.py), so both are read. What cannot be
read, an altered entry, one under a lost key, a bucket that is away, is told and stops nothing: whether rows
were copied back is known to the database alone.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from uuid import UUID

from bilten_orchestration.backups.repository.opened import BUCKETS, Opened
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.progress import Progress
from bilten_orchestration.recovery import journal
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

#: For the journal: who writes it holds rows of production, and one bucket may be away.
PATIENCE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Killed:
    """A recovery that was begun by a call that did not end: `done` says whether rows were copied back."""

    id: UUID
    at: str
    transaction: int
    done: bool


def settled(
    settings: Settings, connection: Connection, progress: Progress, *, write: bool
) -> tuple[tuple[Killed, ...], tuple[Problem, ...]]:
    """What was begun and has no end, which is written; and what of the journal could not be read."""
    found: dict[UUID, Killed] = {}
    ended: set[UUID] = set()
    unread: list[Problem] = []
    with ExitStack() as stack:
        buckets = [
            stack.enter_context(
                Opened.of(settings, new=False, bucket=bucket, patience_seconds=PATIENCE_SECONDS)
            )
            for bucket in BUCKETS
        ]
        open_entries: list[tuple[Opened, journal.Entry]] = []
        for opened in buckets:
            try:
                entries = journal.read(opened, unread)
            except BiltenError as error:
                unread += error.problems
                continue
            ended |= {entry.id for entry in entries if entry.ended is not None}
            open_entries += [(opened, entry) for entry in entries if entry.body.get("what") == "rows"]
        for opened, entry in open_entries:
            if entry.id in ended or entry.id in found:
                continue  # in the other bucket: the copy of an end follows
            row = connection.execute("select 1 from system.recoveries where id = %s", (entry.id,)).fetchone()
            done = row is not None
            killed = Killed(entry.id, str(entry.body["at"]), int(entry.body["transaction"]), done)
            progress(
                f"a recovery begun {killed.at} was killed: "
                + ("its rows had been copied back" if done else "it had changed nothing")
            )
            if write:
                journal.end(opened, entry.name, "done" if done else "nothing", found_by="the next run")
            found[entry.id] = killed
    for problem in unread:
        progress(f"the journal is not read whole: {problem.what}")
    return tuple(found.values()), tuple(unread)
