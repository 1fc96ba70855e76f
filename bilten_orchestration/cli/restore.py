"""`bilten restore STORE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import size

if TYPE_CHECKING:
    from bilten_orchestration.backups.clickhouse.restore import RestoreReport as RestoredTables
    from bilten_orchestration.backups.postgres.restore import RestoreReport


def register(app: typer.Typer) -> None:
    restore = typer.Typer(help="From a backup into a new place.", no_args_is_help=True)
    restore.callback()(_group)
    restore.command("postgres")(postgres)
    restore.command("clickhouse")(clickhouse)
    app.add_typer(restore, name="restore")


def _group() -> None:
    """From a backup into a new place."""


def postgres(
    backup: Annotated[str, typer.Option("--backup", help="Its id, as `bilten backup list` shows it.")],
    to: Annotated[Path, typer.Option("--to", help="A directory that does not exist, or is empty.")],
    as_json: output.Json = False,
) -> None:
    """The data directory of one backup, verified by pg_verifybackup; it is not started.

    Nothing is written over files that exist. Started, it recovers to the moment at which the backup ended.
    """
    with output.errors("restore postgres", as_json=as_json):
        from bilten_orchestration.backups.postgres.restore import restore
        from bilten_orchestration.settings_loading import load_settings

        report = restore(load_settings(), backup, to, progress=output.say)
        output.finish("restore postgres", report, as_json=as_json, human=lambda: _show_postgres(report))


def _show_postgres(report: RestoreReport) -> None:
    print(f"{report.directory}: {size(report.bytes)}, as of {report.backup_id}")
    combined = f"combined in {report.combine_seconds:.1f} s, " if report.combine_seconds else ""
    print(f"unpacked in {report.unpack_seconds:.1f} s, {combined}verified in {report.verify_seconds:.1f} s")


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
    copy: Annotated[bool, typer.Option("--from-copy", help="From the second bucket.")] = False,
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
        from bilten_orchestration.settings_loading import load_settings

        settings = load_settings()
        report = restore(
            settings,
            backup,
            Wanted(database, table, rename, users, "copy" if copy else "first"),
            target=of_url(to_url, settings.clickhouse) if to_url else None,
            preview=preview,
            progress=output.say,
        )
        output.finish("restore clickhouse", report, as_json=as_json, human=lambda: _show_clickhouse(report))


def _show_clickhouse(report: RestoredTables) -> None:
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
