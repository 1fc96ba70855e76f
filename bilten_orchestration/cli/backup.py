"""`bilten backup preflight|create|list|verify|copy|prune|keys|clickhouse-disks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.backups.preflight import PreflightReport
    from bilten_orchestration.backups.report import BackupReport
    from bilten_orchestration.backups.repository.catalogue import Backup
    from bilten_orchestration.backups.verify import VerifyReport
    from bilten_orchestration.settings import Settings


class BucketChoice(StrEnum):
    """Which of the two repositories."""

    first = "first"
    copy = "copy"


FromBucket = Annotated[
    BucketChoice, typer.Option("--bucket", help="The repository, or its copy in the second bucket.")
]


def register(app: typer.Typer) -> None:
    from bilten_orchestration.cli import repository
    from bilten_orchestration.cli.clickhouse_backups import disks_file

    backup = typer.Typer(help="Backups: prepared, taken, listed, verified.", no_args_is_help=True)
    backup.command("preflight")(preflight)
    backup.command("create")(create)
    backup.command("list")(list_)
    backup.command("verify")(verify)
    backup.command("copy")(repository.copy)
    backup.command("prune")(repository.prune)
    backup.command("keys")(repository.keys)
    backup.command("clickhouse-disks")(disks_file)
    app.add_typer(backup, name="backup")


def preflight(
    store: Annotated[str, typer.Argument(help="Whose: postgres, clickhouse or redis.", metavar="STORE")],
    as_json: output.Json = False,
) -> None:
    """Every prerequisite of a store's backups on its server, met or not, and what mends it.

    Reads only. Exits 1 when one is not met.
    """
    with output.errors("backup preflight", as_json=as_json):
        from bilten_orchestration.backups.preflight import examine
        from bilten_orchestration.settings.loading import load_settings

        report = examine(load_settings(), store, progress=output.say)
        output.finish(
            "backup preflight",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_requirements(report),
        )


def _show_requirements(report: PreflightReport) -> None:
    for each in report.requirements:
        print(f"{'met' if each.met else 'NOT MET':<8} {each.name}: {each.found}")


def create(
    store: Annotated[str, typer.Argument(help="Whose: postgres, clickhouse or redis.", metavar="STORE")],
    kind: Annotated[
        str | None, typer.Option("--kind", help="full (the default), incremental or logical (postgres).")
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Take a backup into the repository. Until it has ended whole it is not listed.

    An incremental is taken on the newest full backup; where that cannot be, a full one is taken, and why is
    told. A logical one is pg_dump of each of the platform's databases, with the roles.
    """
    with output.errors("backup create", as_json=as_json):
        from bilten_orchestration.backups.create import create as take
        from bilten_orchestration.backups.repository.catalogue import Backup
        from bilten_orchestration.settings.loading import load_settings

        report = take(load_settings(), store, kind, progress=output.say)
        output.finish(
            "backup create",
            {"backup": _listed(Backup(report.manifest)), "seconds": round(report.seconds, 2)},
            as_json=as_json,
            human=lambda: _show_taken(report),
        )


def list_(
    store: Annotated[str | None, typer.Option("--store", help="Of this one alone.", metavar="STORE")] = None,
    bucket: FromBucket = BucketChoice.first,
    as_json: output.Json = False,
) -> None:
    """Every backup in the repository, oldest first; an incremental stands below the full one it
    builds on, and a little to the right.

    Exits 1 when the repository holds documents that cannot be believed: altered, misplaced, or under a
    key that is lost.
    """
    with output.errors("backup list", as_json=as_json):
        from bilten_orchestration.backups import plan
        from bilten_orchestration.backups.repository import catalogue
        from bilten_orchestration.backups.repository.opened import Opened
        from bilten_orchestration.settings.loading import load_settings

        # raises for a store that is not backed up
        wanted = None if store is None else plan.find(store, None).store
        settings = load_settings()
        with Opened.of(settings, new=False, bucket=bucket.value) as opened:
            found = catalogue.read(opened.repository, opened.ring, wanted)
        copied = _copied(settings)
        output.finish(
            "backup list",
            {"backups": [_listed(backup, copied) for backup in found.backups]},
            as_json=as_json,
            problems=found.problems,
            human=lambda: _show(found.backups, copied),
        )


def _copied(settings: Settings) -> frozenset[str] | None:
    """None where the second bucket cannot be asked: what is in the first one is listed all the same."""
    from bilten_orchestration.backups.copies.copy import copied
    from bilten_orchestration.errors import BiltenError

    try:
        return copied(settings)
    except BiltenError as error:
        output.say(f"whether they are copied is not known: {error.problems[0].what}")
        return None


def verify(
    backup: Annotated[str, typer.Argument(help="Its id, as `bilten backup list` shows it.", metavar="ID")],
    deep: Annotated[bool, typer.Option("--deep", help="Restore it into a scratch server too.")] = False,
    bucket: FromBucket = BucketChoice.first,
    as_json: output.Json = False,
) -> None:
    """Read every object of a backup: it is there, it is the one that was written, and it decrypts.

    With --deep it is restored too, never onto a live server, and removed again: pg_verifybackup checks a base
    backup, rows of a dump and keys of Redis are counted, CHECK TABLE reads ClickHouse's parts. Exits 1 with
    one line for each object that is not what it was.
    """
    with output.errors("backup verify", as_json=as_json):
        from bilten_orchestration.backups.verify import verify as read_all
        from bilten_orchestration.settings.loading import load_settings

        report = read_all(
            load_settings(),
            backup,
            by="bilten backup verify",
            deep=deep,
            bucket=bucket.value,
            progress=output.say,
        )
        output.finish(
            "backup verify",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_verified(report),
        )


def _listed(backup: Backup, copied: frozenset[str] | None = frozenset()) -> dict[str, object]:
    manifest = backup.manifest
    return {
        "id": manifest.id,
        "store": manifest.store,
        "kind": manifest.kind,
        "parent": manifest.parent,
        "state": backup.state,
        "started_at": manifest.started_at,
        "finished_at": manifest.finished_at,
        "raw_bytes": manifest.raw_bytes,
        "stored_bytes": manifest.stored_bytes,
        "key_id": manifest.key_id,
        "copied": None if copied is None else manifest.id in copied,
    }


def _show(backups: tuple[Backup, ...], copied: frozenset[str] | None) -> None:
    if not backups:
        print("no backups; take one: bilten backup create postgres")
        return
    rows = [(" " * depth + backup.manifest.id, backup) for depth, backup in _by_chain(backups)]
    width = max(len(name) for name, _ in rows)
    print(f"{'ID':<{width}} {'STATE':<8} {'AGE':>4} {'STORED':>6} {'RATIO':>5} COPY")
    now = datetime.now(UTC)
    for name, backup in rows:
        manifest = backup.manifest
        print(
            f"{name:<{width}} {backup.state:<8} {age((now - manifest.started_at).total_seconds()):>4} "
            f"{_short(manifest.stored_bytes):>6} "
            f"{manifest.raw_bytes / max(manifest.stored_bytes, 1):>5.1f} "
            f"{'?' if copied is None else 'yes' if manifest.id in copied else 'no'}"
        )


def _by_chain(backups: tuple[Backup, ...]) -> Iterator[tuple[int, Backup]]:
    """Each backup after what it builds on, with how many there are below it; else by start.

    One whose parent is gone stands where it began, and at the left.
    """
    there = {backup.manifest.id for backup in backups}
    children: dict[str | None, list[Backup]] = {}
    for backup in backups:
        parent = backup.manifest.parent
        children.setdefault(parent if parent in there else None, []).append(backup)

    def below(parent: str | None, depth: int) -> Iterator[tuple[int, Backup]]:
        for backup in children.get(parent, ()):
            yield depth, backup
            yield from below(backup.manifest.id, depth + 1)

    return below(None, 0)


def _show_taken(report: BackupReport) -> None:
    manifest = report.manifest
    print(manifest.id)
    print(
        f"{size(manifest.raw_bytes)} in {report.seconds:.1f} s ({report.bytes_per_second / 1e6:.0f} MB/s), "
        f"stored as {size(manifest.stored_bytes)} in {len(manifest.objects)} objects"
    )
    if manifest.counts and manifest.store != "redis":
        print(f"{sum(manifest.counts.values()):,} rows in {len(manifest.counts)} tables")
    if manifest.wal is not None:
        wal = manifest.wal
        print(f"WAL {wal.begin_lsn} to {wal.end_lsn}, timeline {wal.timeline}; key {manifest.key_id}")
    if manifest.store == "redis":
        print(f"{keys_by_database(manifest.counts)} as of {manifest.consistent_at:%Y-%m-%d %H:%M:%S} UTC")


def keys_by_database(counts: Mapping[str, int]) -> str:
    """Keys for people."""
    each = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
    return f"{sum(counts.values()):,} keys" + (f" ({each})" if len(counts) > 1 else "")


def _show_verified(report: VerifyReport) -> None:
    if report.problems:
        print(f"{len(report.problems)} problems in {report.objects} objects")
    else:
        print(f"{report.objects} objects are whole, {size(report.bytes)} in {report.seconds:.1f} s")
    if report.deep:
        print(report.deep)


def age(seconds: float) -> str:
    """A span of time for people."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def _short(size_bytes: int) -> str:
    """In at most five columns: 1.2G."""
    value = float(size_bytes)
    for unit in "BKMGT":
        if value < 1000 or unit == "T":
            break
        value /= 1024
    return f"{value:.1f}{unit}" if value < 10 and unit != "B" else f"{value:.0f}{unit}"


def size(size_bytes: int) -> str:
    """Bytes for people."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"
