"""Whether a backup can be used, and not only read: `bilten backup verify --deep`.

It is restored by the functions that restore it anywhere, into a place of its own (scratch.py): never onto a
live server, and nothing stays of it.

    a base backup     with what it builds on into a directory, where pg_verifybackup reads every file and the
                      WAL that it needs
    a dump            all its databases into an empty server, where the rows of every table are counted
    Redis             into a server that loads it, where the keys of every database are counted
    ClickHouse        into an empty engine, where CHECK TABLE reads every part and rows are counted; that is
                      what the mark `verified` of such a backup means, so the restore itself writes it
"""

from __future__ import annotations

from pathlib import Path

from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

PLACE = "verify"


def use(
    settings: Settings, opened: Opened, bucket: Bucket, manifest: Manifest, by: str, progress: Progress
) -> str:
    """What was done, in words. Raises Mismatch when it cannot be used, Refused (no room, other programs, no
    engine to restore into)."""
    with scratch.place(settings, PLACE, "backup verify --deep", progress) as place:
        match manifest.store:
            case "postgres" if manifest.kind == "logical":
                return _dump(settings, opened, bucket, manifest, place, progress)
            case "postgres":
                return _base(settings, bucket, manifest, place, progress)
            case "redis":
                return _redis(settings, bucket, manifest, place, progress)
            case "clickhouse":
                return _clickhouse(settings, opened, bucket, manifest, by, place, progress)


def _base(settings: Settings, bucket: Bucket, manifest: Manifest, place: Path, progress: Progress) -> str:
    from bilten_orchestration.backups.postgres.restore import restore
    from bilten_orchestration.backups.postgres.targets import Target

    target = Target("backup", manifest.id)
    report = restore(settings, target, place / manifest.id, bucket=bucket, progress=progress)
    return f"restored and accepted by pg_verifybackup: {report.bytes} bytes of files"


def _dump(
    settings: Settings,
    opened: Opened,
    bucket: Bucket,
    manifest: Manifest,
    place: Path,
    progress: Progress,
) -> str:
    from bilten_orchestration.backups.postgres import databases
    from bilten_orchestration.backups.postgres import scratch as of_postgres
    from bilten_orchestration.backups.postgres.logical import DATABASES
    from bilten_orchestration.backups.postgres.logical_restore import restore

    dumped = databases.read(b"".join(opened.get(manifest, manifest.others[DATABASES])))
    major = max(database.major for database in dumped)
    with of_postgres.empty(settings, place / "postgres", major, progress) as server:
        reports = [
            restore(
                settings,
                manifest.id,
                database.name,
                database=database.name,
                server=server,
                roles=True,
                scratch=place,
                bucket=bucket,
                progress=progress,
            )
            for database in dumped
        ]
    rows, expected = sum(report.rows for report in reports), sum(manifest.counts.values())
    if rows != expected:  # a table that the dumps do not hold
        raise Mismatch(
            "the dumps hold other rows than the manifest",
            expected=f"{expected:,}",
            found=f"{rows:,}",
            next="restore another backup",
        )
    tables = sum(report.tables for report in reports)
    return f"restored into an empty server: {rows} rows in {tables} tables"


def _redis(settings: Settings, bucket: Bucket, manifest: Manifest, place: Path, progress: Progress) -> str:
    from bilten_orchestration.backups.redis.restore import restore

    # a short name: a socket lies in it
    report = restore(settings, manifest.id, place / "redis", bucket=bucket, progress=progress)
    keys = sum(report.keys.values())
    return f"loaded by Redis {report.program}: {keys} keys, and {report.expired} that have expired"


def _clickhouse(
    settings: Settings,
    opened: Opened,
    bucket: Bucket,
    manifest: Manifest,
    by: str,
    place: Path,
    progress: Progress,
) -> str:
    from bilten_orchestration.backups.clickhouse import scratch as of_clickhouse
    from bilten_orchestration.backups.clickhouse.restore import Wanted, restore

    with of_clickhouse.empty(settings, opened.ring, place / "clickhouse", progress) as server:
        report = restore(
            settings, manifest.id, Wanted(bucket=bucket), target=server, by=by, progress=progress
        )
    rows = sum(report.rows.values())
    return (
        f"restored into an empty engine and accepted by CHECK TABLE: {rows} rows in {len(report.rows)} tables"
    )
