"""Carries a plan out: first what is missing is made, then what is over is ended, table by table.

    1  the lock `partitions`; the declaration is judged        nothing
    2  every table: what is missing is recorded as planned,    whole partitions; what is planned still is
       and made (creation.py)                                  made by the next run
    3  the repository is opened, entries of the journal that   the same
       have no end are settled
    4  table by table, partition by partition: finalize,       as detach.py, archive.py and drop.py say; the
       detach, archive, drop                                   next run goes on there
    5  expired archives, and what killed archives left         an archive without its document: swept later

The right-hand side is what a kill leaves. Making comes first and needs no object store: a bucket that is away
must not stop writers. What fails in one table is told, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.errors import BiltenError, Mismatch, Problem
from bilten_orchestration.partitions import archives, expiry, journal, metadata
from bilten_orchestration.partitions.actions import Action, Done, Hindrance, Plan, hindrances, problems_of
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import DECLARED, PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, SNAPSHOT, Patience
from bilten_orchestration.partitions.postgres import archive, creation, detach, drop, restored_table
from bilten_orchestration.partitions.postgres.archive import Source
from bilten_orchestration.partitions.postgres.preview import NAME, connected, planned, refuse_wrong
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """`plan` is what was to be done, `done` what was, in its order; `problems` are everything that hindered.
    `swept_bytes` were left by archives that were killed."""

    plan: Plan
    done: tuple[Done, ...]
    swept_bytes: int
    seconds: float
    hindrances: tuple[Hindrance, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        return problems_of(self.hindrances)

    def count(self, action: str, table: str | None = None) -> int:
        return sum(each.action.action == action and table in (None, each.action.table) for each in self.done)


def apply(
    settings: Settings,
    *,
    tables: Sequence[PartitionedTable] = DECLARED,
    first: datetime | None = None,
    limit: int | None = None,
    by: str,
    run: str | None = None,
    progress: Progress = silent,
) -> ApplyReport:
    """Make what is missing and end what is over. `limit` is how many partitions of a table may begin to end
    (default: the setting end_limit), `by` who called it, `run` Dagster's run.

    What hinders one table is in the report. Raises Refused (the declaration), LockHeld (another run),
    StoreUnavailable (PostgreSQL).
    """
    refuse_wrong(tables)
    began = time.monotonic()
    with translated("the maintenance of partitions"), ExitStack() as stack:
        connection = stack.enter_context(connected(settings))
        keeper = stack.enter_context(connected(settings))
        stack.enter_context(
            advisory_lock(
                keeper,
                LOCK,
                wait_seconds=settings.partitions.lock_wait_seconds,
                on_wait=lambda holders: progress(f"waiting for another run: {holders}"),
            )
        )
        work = _Work(settings, connection, tables, by, run, progress)
        restored_table.sweep(connection, tables, progress)
        found = planned(settings, connection, tables, first, limit, progress, work.create)
        work.hindrances += found.hindrances
        swept = 0
        # every night, so that what a killed run left is settled also when nothing ends
        if not found.away and (found.wanted or key_file(settings).exists()):
            try:
                with Opened.of(settings, progress=progress) as opened:
                    journal.settle(opened, connection)
                    work.end(opened, found.actions)
                    grace = timedelta(hours=settings.backups.orphan_grace_hours)
                    swept = archives.sweep(opened.repository, grace, progress, "postgres")
            except BiltenError as error:
                work.hindrances += hindrances(error.problems)
        return ApplyReport(
            found.plan, tuple(work.done), swept, time.monotonic() - began, tuple(work.hindrances)
        )


class _Work:
    """What one run did."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        tables: Sequence[PartitionedTable],
        by: str,
        run: str | None,
        progress: Progress,
    ) -> None:
        self.settings, self.connection = settings, connection
        self.tables = {table.name: table for table in tables}
        self.by, self.run, self.progress = by, run, progress
        self.patience = Patience.of(settings.partitions)
        self.done: list[Done] = []
        self.hindrances: list[Hindrance] = []

    def create(self, table: PartitionedTable, actions: Sequence[Action]) -> None:
        metadata.planned(self.connection, table.name, actions, self.run)
        for action in actions:
            self._create(table, action)

    def _create(self, table: PartitionedTable, action: Action) -> None:
        assert action.from_at is not None  # noqa: S101
        began = time.monotonic()
        try:
            with translated(f"making {action.partition}"):
                period = Period.of(action.from_at, table.interval)
                creation.make(self.connection, table, period, self.patience, self.run)
        except BiltenError as error:
            self._go_on_after(error, table.name)
            return
        self.progress(f"{action.partition}: made")
        self.done.append(Done(action, time.monotonic() - began, 0))

    def end(self, opened: Opened, actions: Sequence[Action]) -> None:
        """What failed for a partition is told, and no later step of it is taken. PostgreSQL has one pending
        detach of a table at most: where that one does not end, no other one of the table begins."""
        failed: set[str] = set()
        stuck: set[str] = set()
        written: dict[str, str] = {}
        for action in actions:
            if action.action in ("create", "keep") or action.partition in failed:
                continue
            if action.action == "detach" and action.table in stuck:
                failed.add(action.partition)
                continue
            self.progress(f"{action.partition}: {action.action}, {action.reason}")
            began = time.monotonic()
            try:
                with translated(f"{action.action} of {action.partition}"):
                    archived = self._one(opened, action, written)
            except BiltenError as error:
                self._go_on_after(error, action.table)
                failed.add(action.partition)
                if action.action in ("detach", "finalize"):
                    stuck.add(action.table)
                continue
            self.done.append(
                Done(
                    action,
                    time.monotonic() - began,
                    archived.rows if archived else None,
                    archived.document if archived else None,
                )
            )

    def _go_on_after(self, error: BiltenError, table: str) -> None:
        """With the next table or partition; raises where that cannot be."""
        if self.connection.closed or self.connection.broken:
            raise error
        self.hindrances += hindrances(error.problems, table)

    def _one(self, opened: Opened, action: Action, written: dict[str, str]) -> Archive | None:
        table = self.tables[action.table]
        source = Source(table, action.partition, action.from_at, action.to_at)
        bounds, settings = (action.from_at, action.to_at), self.settings.partitions
        if action.action == "expire":
            return expiry.expire(self.settings, opened, self.connection, action, self.by, self.progress)
        metadata.follow(self.connection, table.name, action.partition)
        if action.action == "finalize":
            with self._exclusive():
                detach.finalize(self.connection, table, source.name, settings, self.run, self.progress)
        elif action.action == "detach":
            with self._exclusive():
                detach.detach(self.connection, table, source.name, *bounds, settings, self.run, self.progress)
        elif action.action == "archive":
            made = self._archive(opened, source)
            written[action.partition] = made.document
            return made
        elif table.at_end == "drop":
            drop.unarchived(
                self.connection, opened, source, self.patience, self._exclusive, self.by, self.run
            )
        else:
            return self._drop(opened, source, action, written.get(action.partition))
        return None

    def _archive(self, opened: Opened, source: Source) -> Archive:
        return archive.make(self.connection, opened, self.settings, source, self.run, self.progress)

    def _drop(self, opened: Opened, source: Source, action: Action, written: str | None) -> Archive:
        def dropped(document: str) -> Archive:
            return drop.archived(
                self.connection,
                opened,
                source,
                document,
                self.patience,
                self._exclusive,
                self.by,
                self.run,
                self.progress,
            )

        if written is not None:
            return dropped(written)
        assert action.archive is not None  # noqa: S101
        try:
            return dropped(action.archive)
        except Mismatch as error:
            # of an earlier run: not whole any more, or somebody wrote into the table since. The rows are here
            if not isinstance(error, archive.Changed):
                self.hindrances += hindrances(error.problems, source.table.name)
            self.progress(f"{source.name}: archiving anew, {error.problems[0].what}")
        return dropped(self._archive(opened, source).document)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """No reader of a snapshot, and none begins."""
        with (
            postgres.connect(self.settings.postgres, application_name=NAME, autocommit=True) as keeper,
            advisory_lock(
                keeper,
                SNAPSHOT,
                wait_seconds=self.settings.partitions.snapshot_wait_seconds,
                on_wait=lambda holders: self.progress(f"waiting for readers of a snapshot: {holders}"),
            ),
        ):
            yield
