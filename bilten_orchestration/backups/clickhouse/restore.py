"""Tables from a backup: on this server or another one, under their names or others, never over rows.

    1. what is wanted, the target's version, disks and tables, and the bucket are looked at; everything that
       is wrong is told at once                                  nothing is written
    2. every object of the backup, and of its parent, is read and compared with the manifest: RESTORE itself
       does not notice a changed count.txt                       nothing is written
    3. RESTORE of the structure; what the sync says it has       a kill leaves empty tables, and from here on
       applied is forgotten where raw tables come back; merges   some rows. The next call refuses and names
       of these tables off                                       the tables: drop them. Their merges are off
    4. RESTORE of the rows into them, by parts: no materialized  until then, or until the next backup or
       view fires                                                restore puts them on (merges.py)
    5. rows are counted, CHECK TABLE reads every part, the rows
       are compared with what is known of the backup
    6. merges on; the backup is marked verified, with its rows, when all of it was restored

Rows are those of the parts, before any merge: a ReplacingMergeTree has fewer a moment later.

PostgreSQL's mark does not go back with ClickHouse: what was synced since the backup would be missing for
ever. So analytics.sync_batches is empty after raw tables were restored, and from before their first row on:
the sync, which compares its state with that, refuses until `bilten sync --accept-epoch` has read every row
again, and builds refuse as long; no sync runs beside a restore of them. It does not matter which tables
came back, of which moment each of them is, or where it was killed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bilten_orchestration.backups import lock
from bilten_orchestration.backups.clickhouse import (
    digests,
    merges,
    operations,
    preflight,
    proof,
    sealed,
    server,
)
from bilten_orchestration.backups.clickhouse.disks import DISK, PREFIX
from bilten_orchestration.backups.clickhouse.selection import (
    BATCHES,
    Selection,
    Table,
    select,
    tables_in,
)
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.catalogue import Backup, Catalogue
from bilten_orchestration.backups.repository.manifest import Manifest, Mark
from bilten_orchestration.backups.repository.objects import checked
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.ingestion.tables import RAW
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import ClickHouseSettings, Settings
from bilten_orchestration.stores import clickhouse
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_ROOM = 1.05
SYNC_AGAIN = "bilten sync --accept-epoch"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to restore: all of it, one `database`, or one `table` (DATABASE.TABLE); into the database
    `rename`; with `users` also users and roles that do not exist yet. From the `bucket`."""

    database: str | None = None
    table: str | None = None
    rename: str | None = None
    users: bool = False
    bucket: Bucket = "first"


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """`rows` by table as it is called now; tables without rows and views are in `tables` alone. A preview has
    no rows and no seconds. `verified` says that the backup counts as verified from now on, `sync_refuses`
    that raw tables came back: the next sync has to be told to read every row again (`SYNC_AGAIN`)."""

    backup_id: str
    server: str
    tables: tuple[str, ...]
    rows: Mapping[str, int]
    bytes: int
    objects: int
    preview: bool = False
    verified: bool = False
    sync_refuses: bool = False
    check_seconds: float = 0.0
    restore_seconds: float = 0.0
    prove_seconds: float = 0.0


def restore(
    settings: Settings,
    backup_id: str,
    wanted: Wanted = Wanted(),
    *,
    target: ClickHouseSettings | None = None,
    preview: bool = False,
    by: str = "bilten restore clickhouse",
    progress: Progress = silent,
) -> RestoreReport:
    """Restore from a backup into `target` (None: the server of the settings); a `preview` looks only.

    Raises UsageError (the backup holds no such table), Refused (rows in the way, a server or disks that do
    not fit; everything at once), Mismatch (no such backup, a lost key, damaged objects, other rows than the
    backup holds), LockHeld, StoreUnavailable.
    """
    place = target or settings.clickhouse
    began = time.monotonic()
    with translated("the restore"), ExitStack() as stack:
        opened = stack.enter_context(Opened.of(settings, new=False, bucket=wanted.bucket, progress=progress))
        found = catalogue.read(opened.repository, opened.ring, "clickhouse")
        backup, chain = _chain(found, backup_id)
        chosen = select(
            tables_in(_list_of(opened, backup.manifest)),
            database=wanted.database,
            table=wanted.table,
            rename=wanted.rename,
        )
        report = RestoreReport(
            backup_id,
            f"{place.host}:{place.port}",
            tuple(str(table) for table in chosen.targets),
            {},
            sum(each.stored_bytes for each in chain),
            sum(len(each.objects) for each in chain),
            preview=preview,
            sync_refuses=_raw_comes(chosen),
        )
        client = clickhouse.connect(place)
        stack.callback(client.close)
        stack.enter_context(lock.held(settings, "clickhouse", progress))
        if report.sync_refuses and not preview and _same_server(place, settings.clickhouse):
            # it would say at its end that the raw tables hold its batch
            stack.enter_context(
                lock.while_postgres_answers(
                    settings,
                    "sync-run",
                    wait_seconds=settings.ingestion.lock_wait_seconds,
                    waiting_for="the sync",
                    away="so no sync runs",
                    progress=progress,
                )
            )
        if not preview:
            operations.end_leftovers(client, progress)
            merges.mend(client, progress)
        _refuse(client, chain, chosen, wanted)
        if preview:
            return report
        progress(f"checking {report.objects:,} objects, {report.bytes >> 20:,} MiB")
        if problems := digests.problems_of(
            opened.repository, (each for part in chain for each in part.objects), progress
        ):
            raise Mismatch(problems)
        compared = time.monotonic()
        with _restored(client, settings, opened, chain, chosen, wanted, progress) as seconds:
            rows = proof.rows_of(client, chosen)
            proof.check(client, chosen, progress)
            proof.compare(backup, chosen, rows)
        if chosen.whole:
            # RESTORE is asked by tables: a database without any comes back here
            for name in (*backup.manifest.details["databases"].split(","), server.LEFT_OUT):
                client.command(f"create database if not exists {operations.quoted(name)}")
            _mark(opened, backup.manifest, rows, by)
        return replace(
            report,
            rows={str(chosen.target(table)): count for table, count in sorted(rows.items())},
            verified=chosen.whole,
            check_seconds=compared - began,
            restore_seconds=seconds,
            prove_seconds=time.monotonic() - compared - seconds,
        )


def _same_server(one: ClickHouseSettings, other: ClickHouseSettings) -> bool:
    return (one.host, one.port) == (other.host, other.port)


def _chain(found: Catalogue, backup_id: str) -> tuple[Backup, list[Manifest]]:
    """The backup, and it with what it is built on, which comes first."""
    backup = found.find(backup_id)
    parent = backup.manifest.parent
    return backup, [*([found.find(parent).manifest] if parent else []), backup.manifest]


def _list_of(opened: Opened, manifest: Manifest) -> Iterator[bytes]:
    """ClickHouse's own list of the backup's files, decrypted."""
    name = f"{PREFIX}/{manifest.id}/{digests.LIST}"
    (listed,) = (each for each in manifest.objects if each.name == name)
    # whole, so that nothing is parsed before it was compared; a tenth of a KiB for each file
    body = b"".join(checked(opened.repository, listed))
    return sealed.decrypted(name, [body], opened.ring.key(manifest.key_id))


def _refuse(client: Client, chain: list[Manifest], chosen: Selection, wanted: Wanted) -> None:
    backup = chain[-1]
    there = str(client.query("select version()").result_rows[0][0])
    problems = []
    if server.release(there) < server.release(backup.versions["clickhouse"]):
        problems.append(
            Problem(
                "the server is older than the backup",
                expected=f"ClickHouse {backup.versions['clickhouse']} or later",
                found=there,
                next="upgrade it, or restore onto another one (--to-url)",
            )
        )
    problems += [
        each.problem() for each in preflight.disk_requirements(client, DISK[wanted.bucket]) if not each.met
    ]
    if wanted.users and backup.details.get("users") != "yes":
        problems.append(
            Problem(
                "the backup holds no users",
                expected="one of a server that keeps users itself",
                found=f"{backup.id} has users in its configuration alone",
                next="without --users",
            )
        )
    free = int(
        client.query("select min(unreserved_space) from system.disks where name = 'default'").result_rows[0][
            0
        ]
    )
    needed = int(sum(each.raw_bytes for each in chain) * _ROOM)
    if free < needed:
        problems.append(
            Problem(
                "the server has too little room",
                expected=f"{needed >> 20:,} MiB",
                found=f"{free >> 20:,} MiB",
                next="free some, or restore one table (--table)",
            )
        )
    problems += [
        Problem(
            f"{table} holds rows, and nothing is restored over rows",
            expected="no such table, or an empty one",
            found=f"{rows:,} rows",
            next=f"restore into another database (--as), or: drop table {table.sql} sync",
        )
        for table, rows in sorted(
            (chosen.target(table), rows) for table, rows in proof.rows_of(client, chosen).items()
        )
    ]
    if problems:
        raise Refused(problems)


@contextmanager
def _restored(
    client: Client,
    settings: Settings,
    opened: Opened,
    chain: list[Manifest],
    chosen: Selection,
    wanted: Wanted,
    progress: Progress,
) -> Iterator[float]:
    """The tables with their rows, and no merge in them until the block is left. Yields seconds."""
    began = time.monotonic()
    disk, backup = DISK[wanted.bucket], chain[-1]
    if wanted.table and wanted.rename:
        client.command(f"create database if not exists {operations.quoted(wanted.rename)}")

    def run(step: str, elements: str, *given: str) -> None:
        # the server takes no id twice
        operation = f"restore-{backup.id}-{step}-{secrets.token_hex(3)}"
        # the base is named anew: in the list of files it is the one of the first bucket
        base = [f"base_backup = Disk('{disk}', '{chain[0].id}')"] if len(chain) > 1 else []
        settled = ", ".join([f"id = '{operation}'", *base, *given])
        operations.run(
            client,
            f"restore {elements} from Disk('{disk}', '{backup.id}') settings {settled}",
            operation,
            settings={},
            ask_store=lambda: next(iter(opened.repository.list(f"{PREFIX}/{backup.id}/")), None),
            stalled_seconds=settings.backups.stalled_seconds,
            progress=progress,
        )

    progress("tables and views")
    run("structure", chosen.elements, "structure_only = 1")
    if _raw_comes(chosen):
        _forget_batches(client)
    with merges.off(client, proof.merging(client, chosen)):
        progress("rows")
        access = [f"table system.{name}" for name in server.ACCESS] if wanted.users else []
        if elements := [*access, *([chosen.rows] if chosen.rows else [])]:
            run("rows", ", ".join(elements))
        yield time.monotonic() - began


def _raw_comes(chosen: Selection) -> bool:
    return any(table.database == RAW for table in chosen.targets)


def _forget_batches(client: Client) -> None:
    """See the module's docstring."""
    batches = Table(*BATCHES)
    if client.query(f"exists table {batches.sql}").result_rows[0][0]:
        client.command(f"truncate table {batches.sql} sync")


def _mark(opened: Opened, manifest: Manifest, rows: Mapping[Table, int], by: str) -> None:
    details = {f"{proof.ROWS}{table}": str(count) for table, count in sorted(rows.items())}
    mark = Mark(manifest.id, "verified", datetime.now(UTC), by, details)
    catalogue.mark(opened.repository, opened.ring, manifest, mark)
