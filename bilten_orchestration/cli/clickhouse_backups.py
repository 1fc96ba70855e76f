"""What of `bilten backup` and `bilten restore` is ClickHouse's alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import BucketChoice, FromBucket, size

if TYPE_CHECKING:
    from bilten_orchestration.backups.clickhouse.restore import RestoreReport as RestoredTables


def clickhouse(
    backup: Annotated[str, typer.Option("--backup", help="Its id, as `bilten backup list` shows it.")],
    database: Annotated[str | None, typer.Option("--database", help="One database of it.")] = None,
    table: Annotated[str | None, typer.Option("--table", help="One table of it: DATABASE.TABLE.")] = None,
    rename: Annotated[str | None, typer.Option("--as", help="Into this database instead.")] = None,
    to_url: Annotated[
        str | None,
        typer.Option(
            "--to-url",
            help="Onto another server: http(s)://[USER@]HOST:PORT; its password in CLICKHOUSE_PASSWORD.",
        ),
    ] = None,
    users: Annotated[
        bool, typer.Option("--users", help="Also users, roles and grants that do not exist yet.")
    ] = False,
    bucket: FromBucket = BucketChoice.first,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only look: what would be restored, what is in the way.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Tables and views of one backup, checked before and after; rows that exist are never written over.

    The first restore of a whole backup makes it verified, and every later one must find the same rows.
    """
    with output.errors("restore clickhouse", as_json=as_json):
        from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
        from bilten_orchestration.backups.clickhouse.target import of_url
        from bilten_orchestration.settings.loading import load_settings

        settings = load_settings()
        report = restore(
            settings,
            backup,
            Wanted(database, table, rename, users, bucket.value),
            target=of_url(to_url, settings.clickhouse) if to_url else None,
            preview=preview,
            progress=output.say,
        )
        output.finish("restore clickhouse", report, as_json=as_json, human=lambda: _show_clickhouse(report))


def _show_clickhouse(report: RestoredTables) -> None:
    from bilten_orchestration.backups.clickhouse.restore import SYNC_AGAIN

    print(report.backup_id)
    print(f"{len(report.tables)} tables and views on {report.server}, {size(report.bytes)}")
    if report.preview:
        for name in report.tables:
            print(f"  {name}")
        print("nothing is in the way, and nothing was written")
        return
    print(
        f"checked in {report.check_seconds:.1f} s, restored in {report.restore_seconds:.1f} s, "
        f"proved in {report.prove_seconds:.1f} s"
    )
    print(f"{sum(report.rows.values()):,} rows in {len(report.rows)} tables{'; verified' * report.verified}")
    if report.sync_refuses:
        print("the sync refuses until every row was read again; next, where it is the")
        print(f"platform's server: {SYNC_AGAIN}")


def disks_file(
    to: Annotated[Path, typer.Option("--to", help="A file; it gets mode 600 and is replaced in one step.")],
    as_json: output.Json = False,
) -> None:
    """The disks that a ClickHouse of your own needs for backups, with their keys, as a configuration file.

    Put it into the server's config.d, owned by the server's user, and restart the server; again after a
    rotation of the keys. The embedded one gets it from `bilten up`. Nothing of it is printed.
    """
    with output.errors("backup clickhouse-disks", as_json=as_json):
        from bilten_orchestration.backups.clickhouse import disks
        from bilten_orchestration.backups.repository import keys
        from bilten_orchestration.backups.repository.opened import key_file
        from bilten_orchestration.errors import Refused
        from bilten_orchestration.local.privileges import server_file
        from bilten_orchestration.settings.loading import load_settings

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
