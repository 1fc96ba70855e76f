"""Whether a backup can be used, and not only read: `bilten backup verify --deep`.

A base backup is restored, with what it builds on, into a scratch directory, where pg_verifybackup reads
every file and the WAL that it needs. A dump is read by pg_restore to its end, without a server, and the rows
of each table are those of the manifest.

The scratch directory is <state directory>/verify, used by one at a time. It is removed when this ends; what a
kill leaves is removed by the next call.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings


def use(settings: Settings, opened: Opened, bucket: Bucket, manifest: Manifest, progress: Progress) -> str:
    """What was done, in words. Raises Mismatch when it cannot be used, Refused (no room, other programs, a
    store whose backups have no such proof)."""
    match manifest.store, manifest.kind:
        case "postgres", "logical":
            return _read_dumps(settings, opened, manifest, progress)
        case "postgres", _:
            return _restore(settings, bucket, manifest, progress)
    raise Refused(
        f"backups of {manifest.store} are not verified deeply",
        expected="a backup of postgres",
        found=manifest.id,
        next=f"bilten restore {manifest.store} proves it by a restore",
    )


def _restore(settings: Settings, bucket: Bucket, manifest: Manifest, progress: Progress) -> str:
    from bilten_orchestration.backups.postgres.restore import restore
    from bilten_orchestration.backups.postgres.targets import Target

    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = settings.home / "verify"
    with exclusive(
        settings.home / "verify.lock",
        "backup verify --deep",
        progress,
        wait_seconds=settings.backups.lock_wait_seconds,
    ):
        _remove(place, progress)
        try:
            target = Target("backup", manifest.id)
            report = restore(settings, target, place / manifest.id, bucket=bucket, progress=progress)
        finally:
            _remove(place)
    return f"restored and accepted by pg_verifybackup: {report.bytes} bytes of files"


def _remove(place: Path, progress: Progress | None = None) -> None:
    if place.exists():
        if progress is not None:
            progress(f"removing {place}, which a verification that was killed left")
        shutil.rmtree(place)


def _read_dumps(settings: Settings, opened: Opened, manifest: Manifest, progress: Progress) -> str:
    from bilten_orchestration.backups.postgres import databases, dump_rows, programs
    from bilten_orchestration.backups.postgres.logical import DATABASES, counted_as, objects_of

    dumped = databases.read(b"".join(opened.get(manifest, manifest.others[DATABASES])))
    found: dict[str, int] = {}
    for database in dumped:
        directory = programs.directory(settings.postgres, database.major, or_newer=True)

        def stored(name: str = database.name) -> Iterator[bytes]:
            for each in objects_of(manifest, name):
                yield from opened.get(manifest, each)
                progress(f"{each.name}: read")

        with dump_rows.counted(directory / "pg_restore") as reader:
            for _ in reader.through(stored()):
                pass
            found |= {counted_as(database.name, *table): rows for table, rows in reader.rows().items()}
    problems = [
        Problem(
            f"{name} has other rows in the dump than in the manifest",
            expected="none" if (rows := manifest.counts.get(name)) is None else f"{rows:,}",
            found="none" if (there := found.get(name)) is None else f"{there:,}",
            next="restore another backup",
        )
        for name in sorted({*manifest.counts, *found})
        if manifest.counts.get(name) != found.get(name)
    ]
    if problems:
        raise Mismatch(problems)
    return f"read whole by pg_restore: {sum(found.values())} rows in {len(found)} tables"
