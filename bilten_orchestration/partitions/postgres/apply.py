"""Carries a plan out: first what is missing is made, then what is over is ended, table by table.

    1  the lock `partitions`; the declaration is judged        nothing
    2  every table: what is missing is made (creation.py)      whole partitions
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.errors import BiltenError, Mismatch, Problem, Refused
from bilten_orchestration.partitions import archives, declared, expiry, journal, metadata
from bilten_orchestration.partitions.actions import Action, Plan
from bilten_orchestration.partitions.archives import Archive, Archives
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import DECLARED, PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, SNAPSHOT, Patience
from bilten_orchestration.partitions.postgres import archive, creation, detach, drop, restore, seen, trust
from bilten_orchestration.partitions.postgres.archive import Source
from bilten_orchestration.partitions.postgres.plan import plan
from bilten_orchestration.partitions.postgres.seen import Seen
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

NAME = "bilten partitions"


@dataclass(frozen=True, slots=True)
class Done:
    """One action that was carried out. `archive` is the document that it wrote or relied on."""

    action: Action
    seconds: float
    rows: int | None = None
    archive: str | None = None


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """`plan` is what was to be done, `done` what was, in its order; `problems` are everything that hindered.
    `swept_bytes` were left by archives that were killed."""

    plan: Plan
    done: tuple[Done, ...]
    swept_bytes: int
    seconds: float
    problems: tuple[Problem, ...]

    def count(self, action: str, table: str | None = None) -> int:
        return sum(each.action.action == action and table in (None, each.action.table) for each in self.done)


def preview(
    settings: Settings,
    *,
    tables: Sequence[PartitionedTable] = DECLARED,
    first: datetime | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> Plan:
    """What `apply` would do, and why. Changes nothing.

    Where the object store is away, what ends is a problem and the rest is planned. Raises Refused (the
    declaration), StoreUnavailable (PostgreSQL).
    """
    _refuse_wrong(tables)
    with translated("the plan of partitions"), _connected(settings) as connection:
        return _Planned.of(settings, connection, tables, first, limit, progress).plan


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
    _refuse_wrong(tables)
    began = time.monotonic()
    with translated("the maintenance of partitions"), ExitStack() as stack:
        connection = stack.enter_context(_connected(settings))
        keeper = stack.enter_context(_connected(settings))
        stack.enter_context(
            advisory_lock(
                keeper,
                LOCK,
                wait_seconds=settings.partitions.lock_wait_seconds,
                on_wait=lambda holders: progress(f"waiting for another run: {holders}"),
            )
        )
        work = _Work(settings, connection, tables, by, run, progress)
        restore.sweep(connection, tables, progress)
        planned = _Planned.of(settings, connection, tables, first, limit, progress, work.create)
        work.problems += planned.plan.problems
        swept = 0
        # every night, so that what a killed run left is settled also when nothing ends
        if not planned.away and (planned.wanted or key_file(settings).exists()):
            try:
                with Opened.of(settings, progress=progress) as opened:
                    journal.settle(opened, connection)
                    work.end(opened, planned.plan)
                    grace = timedelta(hours=settings.backups.orphan_grace_hours)
                    swept = archives.sweep(opened.repository, grace, progress, "postgres")
            except BiltenError as error:
                work.problems += error.problems
        problems = tuple(dict.fromkeys(work.problems))
        return ApplyReport(planned.plan, tuple(work.done), swept, time.monotonic() - began, problems)


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection]:
    with postgres.connect(settings.postgres, application_name=NAME, autocommit=True) as connection:
        digests.pin(connection)
        yield connection


def _refuse_wrong(tables: Sequence[PartitionedTable]) -> None:
    if problems := declared.problems(tables):
        raise Refused(problems)


@dataclass(frozen=True, slots=True)
class _Planned:
    """`away`: the repository was asked, and did not answer. `wanted`: it has something to do."""

    plan: Plan
    wanted: bool
    away: bool = False

    @classmethod
    def of(
        cls,
        settings: Settings,
        connection: Connection,
        tables: Sequence[PartitionedTable],
        first: datetime | None,
        limit: int | None,
        progress: Progress,
        create: Callable[[PartitionedTable, Action], None] | None = None,
    ) -> _Planned:
        """With `create` what is missing is made before the repository is asked for anything."""
        limit = settings.partitions.end_limit if limit is None else limit
        found, problems = _seen(connection, tables)
        made = [plan(each, limit=limit, first=first) for each in found]
        if create is not None:
            for each, one in zip(found, made, strict=True):
                for action in one.actions:
                    if action.action == "create":
                        create(each.table, action)
        silence = timedelta(days=settings.partitions.silence_days)
        doubts = trust.untrusted(found, datetime.now(UTC), None, silence)
        if not any(_needs_repository(each, one) for each, one in zip(found, made, strict=True)):
            if doubts:
                made = [plan(each, limit=limit, first=first, untrusted=doubts) for each in found]
            return cls(_with(Plan.joined(made), problems), wanted=False)
        listed, clock, away = _repository(settings, progress, new=create is not None)
        doubts = [*trust.untrusted(found, datetime.now(UTC), clock, silence), *away]
        found = [seen.with_archives(each, listed.archives) for each in found]
        made = [plan(each, limit=limit, first=first, untrusted=doubts) for each in found]
        # archives that cannot be believed are none, and told
        told = [*problems, *away, *listed.problems]
        return cls(_with(Plan.joined(made), told), wanted=True, away=bool(away))


def _needs_repository(each: Seen, one: Plan) -> bool:
    ends = any(action.action not in ("create", "keep") for action in one.actions)
    return ends or each.table.archive_retention is not None


def _seen(connection: Connection, tables: Sequence[PartitionedTable]) -> tuple[list[Seen], list[Problem]]:
    found: list[Seen] = []
    problems: list[Problem] = []
    for table in tables:
        try:
            found.append(seen.read(connection, table))
        except Refused as error:
            problems += error.problems
    return found, problems


def _repository(
    settings: Settings, progress: Progress, *, new: bool
) -> tuple[Archives, datetime | None, list[Problem]]:
    """Archives, the store's clock, and why neither is known. Without keys nothing was archived yet."""
    if not new and not key_file(settings).exists():
        return Archives((), ()), None, []
    try:
        with Opened.of(settings, new=new, progress=progress) as opened:
            listed = archives.read(opened.repository, opened.ring, "postgres")
            return listed, opened.repository.clock(), []
    except BiltenError as error:
        return Archives((), ()), None, list(error.problems)


def _with(found: Plan, problems: Sequence[Problem]) -> Plan:
    return Plan(found.actions, tuple(dict.fromkeys((*found.problems, *problems))))


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
        self.problems: list[Problem] = []

    def create(self, table: PartitionedTable, action: Action) -> None:
        assert action.from_at is not None  # noqa: S101
        began = time.monotonic()
        try:
            with translated(f"making {action.partition}"):
                period = Period.of(action.from_at, table.interval)
                creation.make(self.connection, table, period, self.patience, self.run)
        except BiltenError as error:
            self._go_on_after(error)
            return
        self.progress(f"{action.partition}: made")
        self.done.append(Done(action, time.monotonic() - began, 0))

    def end(self, opened: Opened, plan: Plan) -> None:
        """What failed for a partition is told, and no later step of it is taken. PostgreSQL has one pending
        detach of a table at most: where that one does not end, no other one of the table begins."""
        failed: set[str] = set()
        stuck: set[str] = set()
        written: dict[str, str] = {}
        for action in plan.actions:
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
                self._go_on_after(error)
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

    def _go_on_after(self, error: BiltenError) -> None:
        """With the next table or partition; raises where that cannot be."""
        if self.connection.closed or self.connection.broken:
            raise error
        self.problems += error.problems

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
                self.problems += error.problems
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
