"""What one transaction did is taken back: `bilten recover rows`.

What a kill leaves, and what the next call makes of it:

    1  restore beside, twice replayed     files and a server in the scratch place: ended and removed
    2  comparison in production           temporary tables: gone with the connection
    3  the journal's entry in the repository, before the first change: without an end; the next call finds no
       row in system.recoveries, says that nothing was changed, and writes the end. It is in the bucket that
       was restored from, so the next call looks into both
    4  rows, tombstones, audit, system.recoveries: one transaction, all or nothing
    5  behind the commit                  the entry without an end; the next call finds the row, says that it
                                          was done, writes the end, and goes on with 6
    6  sync, marts, comparison of stores  repeated by the next call, which finds nothing to copy back

Production is only read until 4; one recovery at a time, by a lock on this machine and one in PostgreSQL.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.errors import Problem, Refused, UsageError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.recovery import beside, candidates, copying, unended
from bilten_orchestration.recovery.candidates import Candidate
from bilten_orchestration.recovery.comparison import ChangedSince, TableChanges
from bilten_orchestration.recovery.settled import SettledReport, settle
from bilten_orchestration.recovery.unended import Killed
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

PLACE = "recover"
LOCK = "recover"


@dataclass(frozen=True, slots=True)
class RowsReport:
    """`transaction` is the one whose changes are taken back; `left_out` tables that it wrote and that are the
    platform's own records. `recovery` is None where nothing was copied back: a preview, or nothing to do.
    `unread` are entries of the journal, or a whole bucket of it, that could not be read: a recovery that was
    killed may be among them. `seconds` by phase."""

    transaction: int
    committed_at: datetime
    commit_lsn: str
    candidate: Candidate | None
    backup_id: str
    executed: bool
    recovery: UUID | None
    tables: tuple[TableChanges, ...]
    left_out: tuple[str, ...]
    killed: tuple[Killed, ...]
    settled: SettledReport | None
    seconds: dict[str, float]
    problems: tuple[Problem, ...]
    unread: tuple[Problem, ...] = ()

    @property
    def written(self) -> int:
        return sum(table.written for table in self.tables)


def find(
    settings: Settings, table: str, since: datetime, until: datetime | None = None
) -> tuple[Candidate, ...]:
    """Transactions that changed a table in a span of time, oldest first. Reads only."""
    with translated("the look for transactions"), _connected(settings) as connection:
        return candidates.within(connection, table, since, until)


def recover(
    settings: Settings,
    table: str,
    *,
    transaction: int | None = None,
    before: datetime | None = None,
    changed_since: ChangedSince = "refuse",
    backup: str | None = None,
    bucket: Bucket = "first",
    execute: bool = False,
    rebuild: bool = True,
    by: str,
    progress: Progress = silent,
) -> RowsReport:
    """Take back what a transaction did: the one of that id, or the only one that changed `table` since
    `before`. Without `execute` nothing is written, and the report's problems are what would stop it.

    Raises UsageError, Refused (no such transaction, or several; what stops it), LockHeld, Mismatch, and what
    the restore, the sync and the build raise.
    """
    if (transaction is None) == (before is None):
        raise UsageError(
            "a recovery of rows wants one transaction",
            expected="--before or --transaction",
            found="both or none",
        )
    clock = _Clock()
    with ExitStack() as stack:
        place = stack.enter_context(scratch.place(settings, PLACE, "recover rows", progress))
        stack.enter_context(translated("the recovery"))
        locks = stack.enter_context(_connected(settings))
        stack.enter_context(advisory_lock(locks, LOCK, wait_seconds=settings.backups.lock_wait_seconds))
        opened = stack.enter_context(Opened.of(settings, new=False, bucket=bucket, progress=progress))
        chosen, candidate = _choose(locks, table, transaction, before)
        candidates.refuse_unless_committed(locks, chosen)
        killed, unread = unended.settled(settings, locks, progress, write=execute)
        start = backup or _newest_before(opened, candidate)
        clock.lap("find")
        found = beside.changes(settings, chosen, place, backup=start, bucket=bucket, progress=progress)
        _refuse_other_table(table, found)
        clock.lap("restore beside")
        # rows are locked while its entry is written
        written = stack.enter_context(
            Opened.of(settings, new=False, bucket=bucket, patience_seconds=unended.PATIENCE_SECONDS)
        )
        recovery, changes, problems = copying.copy_back(
            settings, written, found, table, changed_since, by, progress, execute=execute
        )
        clock.lap("compare and copy back" if execute else "compare")
    settled = None
    if execute and not problems:
        settled = settle(settings, accept_epoch=False, rebuild=rebuild, progress=progress)
        clock.lap("sync, build, reconcile")
        problems = settled.problems
    return RowsReport(
        chosen,
        found.evidence.committed_at,
        found.evidence.commit_lsn,
        candidate,
        found.restored.backup_id,
        execute,
        recovery,
        changes,
        found.left_out,
        killed,
        settled,
        clock.laps,
        tuple(problems),
        unread,
    )


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._at = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._at, 2)
        self._at = now


def _connected(settings: Settings) -> Connection:
    return postgres.connect(settings.postgres, application_name="bilten recover", autocommit=True)


def _choose(
    connection: Connection, table: str, transaction: int | None, before: datetime | None
) -> tuple[int, Candidate | None]:
    candidates.require(connection, table)
    if transaction is not None:
        return transaction, candidates.one(connection, table, transaction)
    assert before is not None  # noqa: S101
    found = candidates.within(connection, table, before)
    if len(found) == 1:
        return found[0].transaction, found[0]
    if not found and (taken_back := candidates.taken_back(connection, table, before)) is not None:
        return taken_back, None
    shown = ", ".join(f"{each.transaction} ({each.first_at:%F %T})" for each in found[:5])
    more = f" and {'more' if len(found) > candidates.AT_MOST else len(found) - 5}" if len(found) > 5 else ""
    raise Refused(
        f"which transaction damaged {table} is not clear",
        expected=f"one that changed it since {before:%F %T} UTC",
        found=f"{len(found)}: {shown}{more}" if found else "none",
        next=f"bilten recover rows --table {table} --since TIME shows them; then --transaction ID",
    )


def _newest_before(opened: Opened, candidate: Candidate | None) -> str | None:
    """What was over before the first trace of the transaction, so that the commit lies behind it. An hour of
    grace: it may have begun with other tables."""
    if candidate is None:
        return None
    past = Past.read(opened)
    before = [
        start.backup.manifest.id
        for start in past.starts(past.timeline)
        if start.consistent_at < candidate.first_at and start.run.end >= start.end and not start.ahead
    ]
    early = [
        start.backup.manifest.id
        for start in past.starts(past.timeline)
        if start.backup.manifest.id in before
        and start.consistent_at < candidate.first_at - timedelta(hours=1)
    ]
    reaching = early or before
    return reaching[-1] if reaching else None


def _refuse_other_table(table: str, found: beside.Beside) -> None:
    touched = [image.table.name for image in found.images]
    if table not in touched:
        raise Refused(
            f"transaction {found.evidence.transaction} did not write {table}",
            expected=f"writes of {table} in the WAL",
            found=", ".join(touched) or "writes of no table of the application",
            next=f"bilten recover rows --table {table} --since TIME shows those that did",
        )
