"""A run over the monthly tables of ClickHouse: what is over is archived, proven and dropped.

Under the locks `partitions` (one runner), `snapshot` (nobody reads one) and `sync` (no build reads while a
month leaves). What ended is recorded in PostgreSQL after it ended in ClickHouse: a kill in between leaves a
month that is recorded and gone, with an archive of its digest; the next run records that (`settle`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.partitions import archives, expiry, journal
from bilten_orchestration.partitions.actions import Action, Done
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse import archive as archiving
from bilten_orchestration.partitions.clickhouse import ending, months, record
from bilten_orchestration.partitions.clickhouse import restore as restoring
from bilten_orchestration.partitions.clickhouse.plan import Seen
from bilten_orchestration.partitions.clickhouse.preview import (
    MonthsReport,
    opened_stores,
    planned,
    report,
    see,
)
from bilten_orchestration.partitions.declared import CLICKHOUSE, PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, SNAPSHOT
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

SYNC = "sync"


def apply(
    settings: Settings,
    table: PartitionedTable = CLICKHOUSE[0],
    *,
    limit: int | None = None,
    by: str = "bilten partitions apply",
    run: str | None = None,
    progress: Progress = silent,
) -> MonthsReport:
    """Do it. Raises LockHeld, Mismatch (an archive that could not be proven), and what the stores do."""
    with (
        opened_stores(settings) as (connection, client),
        Opened.of(settings, progress=progress) as opened,
        _locked(settings, connection, progress),
    ):
        seen = see(connection, client, opened, table)
        settle(connection, seen, run)
        record.measured(connection, seen, run)
        seen = see(connection, client, opened, table)
        found = planned(seen, settings, limit, opened)
        done = []
        made: dict[str, Archive] = {}
        by_name = {months.name_of(table, m.period): m for m in seen.months}
        for action in found.changes:
            progress(f"{action.partition}: {action.action}, {action.reason}")
            began = time.monotonic()
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
            elif action.action == "expire":
                expiry.expire(settings, opened, connection, action, by, progress)
            else:
                _finalize(connection, client, opened, table, seen, action, run, progress)
            document = made[action.partition].document if action.partition in made else action.archive
            done.append(Done(action, time.monotonic() - began, action.rows, document))
        after = see(connection, client, opened, table)
        _settle_journal(opened, connection, after)
        grace = timedelta(hours=settings.backups.orphan_grace_hours)
        swept = archives.sweep(opened.repository, grace, progress, "clickhouse")
        return report(after, found, done, client, settings, swept)


def restore(
    settings: Settings,
    period: Period,
    table: PartitionedTable = CLICKHOUSE[0],
    *,
    run: str | None = None,
    progress: Progress = silent,
) -> tuple[Archive, int]:
    """The month's newest archive, and how many rows came back. Raises Refused (no archive), Mismatch."""
    with (
        opened_stores(settings) as (connection, client),
        Opened.of(settings, new=False, progress=progress) as opened,
        _locked(settings, connection, progress),
    ):
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


def _settle_journal(opened: Opened, connection: Connection, seen: Seen) -> None:
    """End the entries of runs that were killed, by what there is now. The caller holds the locks."""
    here = {months.name_of(seen.table, m.period) for m in seen.months}
    held = {each.partition for each in seen.recorded if each.hold_until is not None}
    for each in journal.read(opened, open_only=True):
        if (each.body.get("store"), each.body["table"]) != ("clickhouse", seen.table.name):
            continue
        partition = each.body["partition"]
        match each.body["what"]:
            case "drop":
                done = partition not in here
            case "expire":
                done = journal.expired(opened, connection, each)
            case _:
                done = partition in here & held
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
