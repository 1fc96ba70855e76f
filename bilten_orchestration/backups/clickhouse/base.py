"""Full and incremental backups: the server's own BACKUP to an encrypted disk, then every object's SHA-256.

The server encrypts and sends; nothing passes through this process until all of it lies in the bucket. In
order, and what a kill in between leaves:

    1. the locks of lock.py are taken                     nothing
    2. the server is looked at; what a killed process     nothing
       left running in it is ended, and merges that one
       left off are on again
    3. BACKUP ... ASYNC, followed to its end              objects without a manifest, and a BACKUP that goes
                                                          on in the server: the next call ends it (step 2)
    4. every object is read once, for its SHA-256         objects without a manifest: swept later
    5. our manifest is signed and stored                  a backup

A server that is killed in step 3 forgets what it did: objects without a manifest. AES in counter mode tells
no change, so what the server wrote is believed where it adds up: as many objects and bytes as the server
counted, all under one key, and that key one of the key file.

BACKUP is no snapshot: each table is as it was at some moment of step 3. Rows of tables that did not change
meanwhile are in the manifest's `counts`; those of the others are known after the first restore.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from bilten_orchestration.backups import lock
from bilten_orchestration.backups.clickhouse import (
    digests,
    merges,
    operations,
    parents,
    preflight,
    sealed,
    server,
)
from bilten_orchestration.backups.clickhouse.disks import DISK, PREFIX
from bilten_orchestration.backups.clickhouse.operations import quoted
from bilten_orchestration.backups.report import BackupReport
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest, new_id
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

Kind = Literal["full", "incremental"]


def take(
    settings: Settings, kind: Kind = "full", *, run: str | None = None, progress: Progress = silent
) -> BackupReport:
    """Take a full backup, or an incremental on the newest full one.

    Where an incremental cannot be, a full one is taken, and the manifest's details say why.

    Raises LockHeld (another backup or restore, ours or somebody's), Refused (databases, disks, key file),
    Mismatch (BACKUP failed, or what lies in the bucket does not add up), StoreUnavailable, AccessRefused.
    """
    began = time.monotonic()
    with translated("the backup"), ExitStack() as stack:
        client = clickhouse.connect(settings.clickhouse)
        stack.callback(client.close)
        stack.enter_context(lock.held(settings, "clickhouse", progress))
        found = _look(client)
        operations.end_leftovers(client, progress)
        merges.mend(client, progress)
        # a key that the server's disks do not know would encrypt nothing: none is made here
        opened = stack.enter_context(Opened.of(settings, new=False, progress=progress))
        parent = "" if kind == "full" else _parent(opened, found)
        if isinstance(parent, str) and parent:
            progress(f"a full backup instead of an incremental: {parent}")
        base = parent if isinstance(parent, Manifest) else None
        started_at = datetime.now(UTC)
        backup_id = new_id("clickhouse", "incremental" if base else "full", started_at)
        prefix = f"{PREFIX}/{backup_id}/"
        progress(f"{backup_id}: {'changes of' if base else 'about'} {found.bytes >> 20:,} MiB to read")
        before, batch = server.rows_and_parts(client), server.newest_batch(client)
        ended = operations.run(
            client,
            statement(backup_id, base.id if base else None, access=found.keeps_users),
            backup_id,
            settings={"max_backup_bandwidth": settings.backups.clickhouse_bytes_per_second},
            ask_store=lambda: next(iter(opened.repository.list(prefix)), None),
            stalled_seconds=settings.backups.stalled_seconds,
            progress=progress,
        )
        after = server.rows_and_parts(client)
        progress(f"BACKUP took {ended.seconds:.1f} s; reading what it wrote")
        stored, start = digests.read_all(opened.repository, prefix, progress)
        _refuse_other_than_counted(ended, len(stored), sum(each.raw_bytes for each in stored))
        key_id = sealed.key_of_list(f"{prefix}{digests.LIST}", start, opened.ring)
        if key_id != opened.ring.current:
            progress(f"ClickHouse still encrypts under {key_id}: give it its new disks (bilten up)")
        taken = Manifest(
            id=backup_id,
            store="clickhouse",
            kind="incremental" if base else "full",
            source=found.source,
            started_at=started_at,
            finished_at=datetime.now(UTC),
            raw_bytes=ended.bytes,
            codec=settings.backups.codec,
            objects=stored,
            key_id=key_id,
            versions={"clickhouse": found.version},
            parent=base.id if base else None,
            run=run,
            counts=unchanged(before, after),
            details=_details(
                ended, parent if isinstance(parent, str) else "", batch, access=found.keeps_users
            ),
            sealing="clickhouse",
        )
        catalogue.add(opened.repository, opened.ring, taken)
    return BackupReport(taken, time.monotonic() - began)


def _look(client: Client) -> server.Server:
    """Raises Refused with everything that forbids a backup."""
    found = server.facts(client)
    problems = [
        *found.forbidden,
        *(each.problem() for each in preflight.disk_requirements(client, DISK["first"]) if not each.met),
    ]
    if problems:
        raise Refused(problems)
    return found


def statement(backup_id: str, base: str | None, *, access: bool) -> str:
    """The BACKUP of everything that is backed up. Ids are ours and hold no quotes."""
    elements = [f"database {quoted(name)}" for name in server.DATABASES]
    if access:
        elements += [f"table system.{name}" for name in server.ACCESS]
    disk = DISK["first"]
    on = f", base_backup = Disk('{disk}', '{base}')" if base else ""
    return f"backup {', '.join(elements)} to Disk('{disk}', '{backup_id}') settings id = '{backup_id}'{on}"


def unchanged(before: Mapping[str, tuple[int, str]], after: Mapping[str, tuple[int, str]]) -> dict[str, int]:
    """Rows of the tables whose parts are the same ones after the backup: these it holds, to the row."""
    return {table: rows for table, (rows, _) in sorted(before.items()) if after.get(table) == before[table]}


def _details(ended: operations.Ended, instead: str, batch: int, *, access: bool) -> dict[str, str]:
    """`batch` was whole in ClickHouse when BACKUP began: every table holds it, and some may hold a later
    one."""
    return {
        "batch": str(batch),
        "databases": ",".join(server.DATABASES),
        "files": str(ended.files),
        "server_seconds": f"{ended.seconds:.1f}",
        "users": "yes" if access else "no",
        **({"instead_of_incremental": instead} if instead else {}),
    }


def _parent(opened: Opened, found: server.Server) -> Manifest | str:
    """What an incremental is taken on, or why there can be none."""
    backups = catalogue.read(opened.repository, opened.ring, "clickhouse").backups
    chosen = parents.choose(backups, found)
    if isinstance(chosen, str):
        return chosen
    return digests.all_there(opened.repository, f"{PREFIX}/{chosen.id}/", chosen.objects) or chosen


def _refuse_other_than_counted(ended: operations.Ended, objects: int, size: int) -> None:
    """Every file of the backup and its list are objects, and nothing else is."""
    if (objects, size) != (ended.entries + 1, ended.bytes):
        raise Mismatch(
            "the bucket does not hold what ClickHouse wrote",
            expected=f"{ended.entries + 1} objects with {ended.bytes} bytes of content",
            found=f"{objects} objects with {size} bytes",
            next="repeat the backup; see who else writes there, and whether the listing is whole",
        )
