"""`bilten backup preflight|create|list|verify|clickhouse-disks`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.backups.catalogue import Backup
    from bilten_orchestration.backups.preflight import PreflightReport
    from bilten_orchestration.backups.report import BackupReport


def register(app: typer.Typer) -> None:
    backup = typer.Typer(help="Backups: prepared, taken, listed, verified.", no_args_is_help=True)
    backup.command("preflight")(preflight)
    backup.command("create")(create)
    backup.command("list")(list_)
    backup.command("verify")(verify)
    backup.command("clickhouse-disks")(clickhouse_disks)
    app.add_typer(backup, name="backup")


def preflight(
    store: Annotated[str, typer.Argument(help="Whose: postgres, clickhouse.", metavar="STORE")],
    as_json: output.Json = False,
) -> None:
    """Every prerequisite of a store's backups on its server, met or not, and what mends it.

    Reads only. Exits 1 when one is not met.
    """
    with output.errors("backup preflight", as_json=as_json):
        from bilten_orchestration.backups.preflight import examine
        from bilten_orchestration.settings_loading import load_settings

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
    store: Annotated[str, typer.Argument(help="Whose: postgres, clickhouse.", metavar="STORE")],
    kind: Annotated[str | None, typer.Option("--kind", help="full (the default) or incremental.")] = None,
    as_json: output.Json = False,
) -> None:
    """Take a backup into the repository. Until it has ended whole it is not listed.

    An incremental is taken on the newest full backup; where that cannot be, a full one is taken, and why is
    told.
    """
    with output.errors("backup create", as_json=as_json):
        from bilten_orchestration.backups.catalogue import Backup
        from bilten_orchestration.backups.create import create as take
        from bilten_orchestration.settings_loading import load_settings

        report = take(load_settings(), store, kind, progress=output.say)
        output.finish(
            "backup create",
            {"backup": _listed(Backup(report.manifest)), "seconds": round(report.seconds, 2)},
            as_json=as_json,
            human=lambda: _show_taken(report),
        )


def list_(as_json: output.Json = False) -> None:
    """Every backup in the repository, oldest first.

    Exits 1 when the repository holds documents that cannot be believed: altered, misplaced, or under a
    key that is lost.
    """
    with output.errors("backup list", as_json=as_json):
        from bilten_orchestration.backups import catalogue
        from bilten_orchestration.backups.opened import Opened
        from bilten_orchestration.settings_loading import load_settings

        with Opened.of(load_settings(), new=False) as opened:
            found = catalogue.read(opened.repository, opened.ring)
        output.finish(
            "backup list",
            {"backups": [_listed(backup) for backup in found.backups]},
            as_json=as_json,
            problems=found.problems,
            human=lambda: _show(found.backups),
        )


def verify(
    backup: Annotated[str, typer.Argument(help="Its id, as `bilten backup list` shows it.", metavar="ID")],
    as_json: output.Json = False,
) -> None:
    """Read every object of a backup: it is there, it is the one that was written, and it decrypts.

    Exits 1 with one line for each object that is not.
    """
    with output.errors("backup verify", as_json=as_json):
        from bilten_orchestration.backups.verify import verify as read_all
        from bilten_orchestration.settings_loading import load_settings

        report = read_all(load_settings(), backup, by="bilten backup verify", progress=output.say)
        output.finish(
            "backup verify",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: print(
                f"{report.objects - len(report.problems)} of {report.objects} objects are whole, "
                f"{size(report.bytes)} in {report.seconds:.1f} s"
            ),
        )


def clickhouse_disks(
    to: Annotated[Path, typer.Option("--to", help="A file; it gets mode 600 and is replaced in one step.")],
    as_json: output.Json = False,
) -> None:
    """The disks that a ClickHouse of your own needs for backups, with their keys, as a configuration file.

    Put it into the server's config.d, owned by the server's user, and restart the server; again after a
    rotation of the keys. The embedded one gets it from `bilten up`. Nothing of it is printed.
    """
    with output.errors("backup clickhouse-disks", as_json=as_json):
        from bilten_orchestration.backups import keys
        from bilten_orchestration.backups.clickhouse import disks
        from bilten_orchestration.backups.opened import key_file
        from bilten_orchestration.errors import Refused
        from bilten_orchestration.local.privileges import server_file
        from bilten_orchestration.settings_loading import load_settings

        settings = load_settings()
        ring = keys.ensure(key_file(settings))
        try:
            server_file(to, disks.configuration(settings.object_store, ring), None)
        except OSError as error:
            raise Refused(
                f"{to} cannot be written",
                expected="a directory that we may write into",
                found=error.strerror or str(error),
            ) from None
        report = {"file": to, "disks": list(disks.DISK.values()), "keys": sorted(ring.keys)}
        output.finish(
            "backup clickhouse-disks",
            report,
            as_json=as_json,
            human=lambda: print(
                f"{to}: {' and '.join(disks.DISK.values())}; it holds keys, keep it to the server"
            ),
        )


def _listed(backup: Backup) -> dict[str, object]:
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
    }


def _show(backups: tuple[Backup, ...]) -> None:
    if not backups:
        print("no backups; take one: bilten backup create postgres")
        return
    width = max(len(backup.manifest.id) for backup in backups)
    # the longest id, of an incremental backup of ClickHouse, has 47 of the 80 columns
    print(f"{'ID':<{width}} {'STATE':<8} {'AGE':>5} {'RAW':>8} {'STORED':>8}")
    now = datetime.now(UTC)
    for backup in backups:
        manifest = backup.manifest
        raw, stored = (size(each).replace(" ", "") for each in (manifest.raw_bytes, manifest.stored_bytes))
        age = _age((now - manifest.started_at).total_seconds())
        print(f"{manifest.id:<{width}} {backup.state:<8} {age:>5} {raw:>8} {stored:>8}")


def _show_taken(report: BackupReport) -> None:
    manifest = report.manifest
    print(manifest.id)
    print(
        f"{size(manifest.raw_bytes)} in {report.seconds:.1f} s ({report.bytes_per_second / 1e6:.0f} MB/s), "
        f"stored as {size(manifest.stored_bytes)} in {len(manifest.objects)} objects"
    )
    if manifest.wal is not None:
        wal = manifest.wal
        print(f"WAL {wal.begin_lsn} to {wal.end_lsn}, timeline {wal.timeline}; key {manifest.key_id}")


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def size(size_bytes: int) -> str:
    """Bytes for people."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"
