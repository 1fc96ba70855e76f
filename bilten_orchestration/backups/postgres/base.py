"""Full and incremental backups: pg_basebackup's stream, cut, compressed, encrypted and stored as it comes.

Nothing is staged on disk. In order, and what a kill in between leaves:

    1. the locks of lock.py are taken                        nothing
    2. the server is looked at, what forbids a backup told   nothing
    3. a temporary slot keeps the WAL of the backup          nothing: it goes with the session
    4. pg_basebackup | slices | zstd | AES | store           objects without a manifest: swept later; the
                                                             server ends its backup when the stream breaks
    5. its own manifest is stored                            the same
    6. ours is signed and stored                             a backup

-X fetch puts the WAL that makes it consistent into the backup, so that it restores alone.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from bilten_orchestration.backups import lock
from bilten_orchestration.backups.postgres import parents, programs, server
from bilten_orchestration.backups.report import BackupReport
from bilten_orchestration.backups.repository import catalogue, objects
from bilten_orchestration.backups.repository.manifest import Manifest, WalRange, new_id
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.backups.repository.tar_slices import Slicer
from bilten_orchestration.backups.told import Told
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

Kind = Literal["full", "incremental"]
MANIFEST = "backup_manifest"


def take(
    settings: Settings, kind: Kind = "full", *, run: str | None = None, progress: Progress = silent
) -> BackupReport:
    """Take a full backup, or an incremental on the newest full one.

    Where an incremental cannot be, a full one is taken, and the manifest's details say why.

    Raises LockHeld (another backup of this server), Refused (server.look, programs.directory), Mismatch
    (pg_basebackup failed, an object was not kept), StoreUnavailable, AccessRefused.
    """
    began = time.monotonic()
    with translated("the backup"), ExitStack() as stack:
        connection = stack.enter_context(
            postgres.connect(settings.postgres, application_name="bilten backup", autocommit=True)
        )
        stack.enter_context(lock.held(settings, "postgres", progress))
        found = server.look(connection)
        program = programs.directory(settings.postgres, found.major) / "pg_basebackup"
        if not key_file(settings).exists():
            progress(f"making {key_file(settings)}: no backup can be read without it, keep a copy elsewhere")
        opened = stack.enter_context(Opened.of(settings, progress=progress))
        parent = None if kind == "full" else stack.enter_context(_parent(opened, found))
        if isinstance(parent, str):
            progress(f"a full backup instead of an incremental: {parent}")
        base = parent if isinstance(parent, _Parent) else None
        started_at = datetime.now(UTC)
        backup_id = new_id("postgres", "incremental" if base else "full", started_at)
        # while it lasts no WAL is recycled that the backup still has to fetch
        connection.execute(
            "select pg_create_physical_replication_slot(%s, true, true)",
            (f"bilten_backup_{secrets.token_hex(6)}",),
        )
        conninfo, environment = stack.enter_context(
            programs.connection_arguments(settings.postgres, f"bilten {backup_id}")
        )
        arguments: list[str | Path] = [
            program,
            f"--dbname={conninfo}",
            "--pgdata=-",
            "--format=tar",
            "--wal-method=fetch",
            "--checkpoint=fast",
            "--no-password",
            f"--label={backup_id}",
            *([f"--incremental={base.file}"] if base else []),
        ]
        stream = stack.enter_context(programs.reading(arguments, environment))
        progress(f"{backup_id}: {'changes of' if base else 'about'} {found.bytes >> 20:,} MiB to read")
        slicer = Slicer(stream, settings.backups.slice_bytes, frozenset({MANIFEST}))
        told = Told(progress, found.bytes)
        stored = opened.put_slices(
            backup_id,
            (
                (
                    objects.name_of("postgres", backup_id, piece.number),
                    piece.continues,
                    told.counting(piece.chunks),
                )
                for piece in slicer
            ),
        )
        consistent_at = postgres.clock(connection)
        manifest = bytes(slicer.kept.get(MANIFEST, b""))
        wal = _wal_range(manifest)
        name = objects.name_of("postgres", backup_id, MANIFEST)
        taken = Manifest(
            id=backup_id,
            store="postgres",
            kind="incremental" if base else "full",
            source=found.system_identifier,
            started_at=started_at,
            finished_at=datetime.now(UTC),
            raw_bytes=slicer.raw_bytes,
            codec=settings.backups.codec,
            objects=tuple(stored),
            key_id=opened.ring.current,
            versions={"postgres": found.version},
            others={MANIFEST: opened.put(backup_id, name, [manifest])},
            parent=base.manifest.id if base else None,
            wal=wal,
            run=run,
            consistent_at=consistent_at,
            details={"instead_of_incremental": parent} if isinstance(parent, str) else {},
        )
        catalogue.add(opened.repository, opened.ring, taken)
    return BackupReport(taken, time.monotonic() - began)


@dataclass(frozen=True, slots=True)
class _Parent:
    """`file` is where pg_basebackup reads the manifest that it made of it."""

    manifest: Manifest
    file: str


@contextmanager
def _parent(opened: Opened, found: server.Server) -> Iterator[_Parent | str]:
    """What an incremental is taken on, or why there can be none."""
    backups = catalogue.read(opened.repository, opened.ring, "postgres").backups
    chosen = parents.choose(backups, found, datetime.now(UTC))
    if isinstance(chosen, str):
        yield chosen
        return
    try:
        body = b"".join(opened.get(chosen, chosen.others[MANIFEST]))
    except Mismatch as error:
        yield error.problems[0].what
        return
    with tempfile.TemporaryFile() as file:  # without a name: a kill leaves nothing of it
        file.write(body)
        file.flush()
        yield _Parent(chosen, programs.path_of(file))


def _wal_range(manifest: bytes) -> WalRange:
    """As pg_basebackup's manifest tells it (PostgreSQL manual, "Backup Manifest Format")."""
    try:
        ranges = json.loads(manifest)["WAL-Ranges"]
        last = ranges[-1]
        return WalRange(int(last["Timeline"]), str(ranges[0]["Start-LSN"]), str(last["End-LSN"]))
    except (ValueError, KeyError, IndexError, TypeError):
        raise Mismatch(
            "the backup holds no manifest of PostgreSQL's own",
            expected="a member backup_manifest with WAL ranges, at its end",
            found=f"{len(manifest)} bytes",
            next="repeat the backup",
        ) from None
