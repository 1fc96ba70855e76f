"""A run over the monthly tables of ClickHouse: what is over is archived, proven and dropped.

Under the locks `partitions` (one runner), `snapshot` (nobody reads one) and `sync` (no build reads while a
month leaves). What ended is recorded in PostgreSQL after it ended in ClickHouse: a kill in between leaves a
month that is recorded and gone, with an archive of its digest; the next run records that (`settle`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.partitions import archives, journal, metadata
from bilten_orchestration.partitions.actions import Action, Plan
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse import archive as archiving
from bilten_orchestration.partitions.clickhouse import ending, health, months, record
from bilten_orchestration.partitions.clickhouse import restore as restoring
from bilten_orchestration.partitions.clickhouse.plan import Seen, plan
from bilten_orchestration.partitions.declared import CLICKHOUSE, PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, SNAPSHOT
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

SYNC = "sync"
APART = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class MonthsReport:
    """`done` in the order in which it was done; `months` as they are now; `plan` what was found."""

    table: str
    plan: Plan
    done: tuple[Action, ...]
    months: tuple[months.Month, ...]
    problems: tuple[Problem, ...]


def look(
    settings: Settings, table: PartitionedTable = CLICKHOUSE[0], *, limit: int | None = None
) -> MonthsReport:
    """What a run would do, and what is wrong; nothing is written."""
    with _open(settings) as (connection, client, opened):
        seen = see(connection, client, opened, table)
        found = _planned(seen, settings, limit, opened)
        return _report(seen, found, (), client, settings)


def apply(
    settings: Settings,
    table: PartitionedTable = CLICKHOUSE[0],
    *,
    limit: int | None = None,
    run: str | None = None,
    progress: Progress = silent,
) -> MonthsReport:
    """Do it. Raises LockHeld, Mismatch (an archive that could not be proven), and what the stores do."""
    with _open(settings) as (connection, client, opened), _locked(settings, connection, progress):
        seen = see(connection, client, opened, table)
        settle(connection, seen, run)
        record.measured(connection, seen, run)
        seen = see(connection, client, opened, table)
        found = _planned(seen, settings, limit, opened)
        done = []
        made: dict[str, Archive] = {}
        by_name = {months.name_of(table, m.period): m for m in seen.months}
        for action in found.changes:
            progress(f"{action.partition}: {action.action}, {action.reason}")
            if action.action == "archive":
                made[action.partition] = archiving.make(
                    client,
                    opened,
                    table,
                    by_name[action.partition],
                    slice_bytes=settings.partitions.archive_slice_bytes,
                    run=run,
                    progress=progress,
                )
                record.changed(connection, made[action.partition], "archived", run)
            elif action.action == "drop":
                archive = made[action.partition]
                with _entry(opened, "drop", archive, run):
                    ending.drop(client, opened, table, archive, progress)
                    record.changed(connection, archive, "dropped", run)
            else:
                _finalize(connection, client, opened, table, seen, action, run, progress)
            done.append(action)
        after = see(connection, client, opened, table)
        _settle_journal(opened, after)
        return _report(after, found, tuple(done), client, settings)


def restore(
    settings: Settings,
    period: Period,
    table: PartitionedTable = CLICKHOUSE[0],
    *,
    run: str | None = None,
    progress: Progress = silent,
) -> tuple[Archive, int]:
    """The month's newest archive, and how many rows came back. Raises Refused (no archive), Mismatch."""
    with _open(settings) as (connection, client, opened), _locked(settings, connection, progress):
        seen = see(connection, client, opened, table)
        archive = seen.archive(period)
        if archive is None:
            raise Refused(
                f"{table.name} has no archive of {period}",
                expected=", ".join(str(Period.of(a.from_at)) for a in seen.archives if a.from_at) or "none",
                found=str(period),
                next="bilten partitions list",
            )
        hold = datetime.now(UTC) + timedelta(days=settings.partitions.restored_hold_days)
        with _entry(opened, "restore", archive, run):
            rows = restoring.restore(client, opened, table, archive, progress)
            record.changed(connection, archive, "attached", run, hold_until=hold)
        return archive, rows


def see(connection: Connection, client: Client, opened: Opened, table: PartitionedTable) -> Seen:
    """Everything that a plan needs."""
    found = archives.read(opened.repository, opened.ring, "clickhouse", table.name)
    if found.problems:
        raise Refused(found.problems)
    aside = tuple(m for m in months.read(client, months.leaving(table)) if m.rows)
    return Seen(
        table,
        months.clock(client),
        months.read(client, table.name),
        aside,
        metadata.read(connection, table.name),
        found.archives,
    )


def settle(connection: Connection, seen: Seen, run: str | None) -> None:
    """Record what a killed run had dropped: gone, archived by us, and recorded as archived."""
    here = {months.name_of(seen.table, m.period) for m in (*seen.months, *seen.left)}
    for each in seen.recorded:
        if each.state == "archived" and each.partition not in here:
            archive = next((a for a in seen.archives if a.document == each.archive), None)
            if archive is not None:
                record.changed(connection, archive, "dropped", run)


@contextmanager
def _entry(opened: Opened, what: str, archive: Archive, run: str | None) -> Iterator[None]:
    """In the journal of partitions. What failed otherwise than by a comparison may have been done: the end of
    the next run finds out."""
    name = journal.begin(
        opened,
        what,
        store="clickhouse",
        table=archive.table,
        partition=archive.partition,
        archive=archive.document,
        run=run,
    )
    try:
        yield
    except Mismatch:
        journal.end(opened, name, "nothing", because="it is not what was archived")
        raise
    journal.end(opened, name, "done")


def _settle_journal(opened: Opened, seen: Seen) -> None:
    """End the entries of runs that were killed, by what there is now. The caller holds the locks."""
    here = {months.name_of(seen.table, m.period) for m in seen.months}
    held = {each.partition for each in seen.recorded if each.hold_until is not None}
    for each in journal.read(opened, open_only=True):
        if (each.body.get("store"), each.body["table"]) != ("clickhouse", seen.table.name):
            continue
        partition = each.body["partition"]
        done = partition not in here if each.body["what"] == "drop" else partition in here & held
        journal.end(opened, each.name, "done" if done else "nothing", found_by="the next run")


def _finalize(
    connection: Connection,
    client: Client,
    opened: Opened,
    table: PartitionedTable,
    seen: Seen,
    action: Action,
    run: str | None,
    progress: Progress,
) -> None:
    assert action.from_at is not None  # noqa: S101
    period = Period.of(action.from_at)
    archive = seen.archive(period)
    if archive is None:
        ending.back(client, table, period, progress)
        return
    archives.require_whole(opened, archive.document, progress)
    ending.finish(client, table, archive, progress)
    record.changed(connection, archive, "dropped", run)


def _planned(seen: Seen, settings: Settings, limit: int | None, opened: Opened) -> Plan:
    limits = settings.partitions.end_limit if limit is None else limit
    return plan(seen, limit=limits, untrusted=untrusted(seen, settings, opened.repository.clock()))


def untrusted(seen: Seen, settings: Settings, store: datetime) -> list[Problem]:
    """Why nothing may end: clocks that differ, or rows that are old (all clocks may be ahead)."""
    found = [
        Problem(
            f"nothing is ended: {who} and ClickHouse do not agree on the time",
            expected=f"{seen.now:%F %T} UTC, as ClickHouse says",
            found=f"{at:%F %T} UTC",
            next="correct the clock that is wrong",
        )
        for who, at in (("this machine", datetime.now(UTC)), ("the object store", store))
        if abs(at - seen.now) > APART
    ]
    newest = max((m.period.end for m in seen.months if m.rows), default=None)
    silence = timedelta(days=settings.partitions.silence_days)
    if newest is not None and seen.now - newest > silence:
        found.append(
            Problem(
                "nothing is ended: the newest clicks are old, and time without rows makes nothing older",
                expected=f"clicks of the last {silence.days} days",
                found=f"the newest month with rows ended {newest:%F}",
                next="see why nothing is written, or correct the clocks (all of them may be ahead)",
            )
        )
    return found


def _report(
    seen: Seen, found: Plan, done: Sequence[Action], client: Client, settings: Settings
) -> MonthsReport:
    told = [*found.problems, *record.drift(seen), *health.problems(client, seen, settings.partitions)]
    return MonthsReport(seen.table.name, replace(found), tuple(done), seen.months, tuple(told))


@contextmanager
def _open(settings: Settings) -> Iterator[tuple[Connection, Client, Opened]]:
    with (
        translated("the maintenance of clickstream months"),
        postgres.connect(
            settings.postgres, application_name="bilten partitions clickhouse", autocommit=True
        ) as connection,
        closing(clickhouse.connect(settings.clickhouse)) as client,
        Opened.of(settings) as opened,
    ):
        yield connection, client, opened


@contextmanager
def _locked(settings: Settings, connection: Connection, progress: Progress) -> Iterator[None]:
    waits = {
        LOCK: settings.partitions.lock_wait_seconds,
        SNAPSHOT: settings.partitions.snapshot_wait_seconds,
        SYNC: settings.ingestion.lock_wait_seconds,
    }
    with ExitStack() as held:
        for name, seconds in waits.items():
            held.enter_context(advisory_lock(connection, name, wait_seconds=seconds, on_wait=progress))
        yield
