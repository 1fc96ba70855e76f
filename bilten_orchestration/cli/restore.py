"""`bilten restore STORE`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import size

if TYPE_CHECKING:
    from bilten_orchestration.backups.postgres.logical_restore import LogicalRestoreReport
    from bilten_orchestration.backups.postgres.restore import RestoreReport
    from bilten_orchestration.settings import PostgresSettings


def register(app: typer.Typer) -> None:
    restore = typer.Typer(help="From a backup into a new place.", no_args_is_help=True)
    restore.callback()(_group)
    restore.command("postgres")(postgres)
    restore.command("logical")(logical)
    app.add_typer(restore, name="restore")


def _group() -> None:
    """From a backup into a new place."""  # makes it a group, though it has one command as yet


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


def logical(
    backup: Annotated[str, typer.Option("--backup", help="Its id, as `bilten backup list` shows it.")],
    into: Annotated[str, typer.Option("--into", help="A database that does not exist, or is empty.")],
    database: Annotated[
        str | None, typer.Option("--database", help="Which one of the backup; else the operational one.")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--table", help="This one alone, as schema.table; INTO may hold others.")
    ] = None,
    with_globals: Annotated[
        bool, typer.Option("--globals", help="Make the roles that are missing; others stay.")
    ] = False,
    no_owner: Annotated[
        bool, typer.Option("--no-owner", help="Without owners and grants: all is the restoring role's.")
    ] = False,
    host: Annotated[
        str | None, typer.Option("--host", help="Another server, or the directory of its socket.")
    ] = None,
    port: Annotated[int | None, typer.Option("--port", min=1, max=65_535, help="Its port.")] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Who restores; the password in PGPASSWORD, or ~/.pgpass.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Tables and indexes at once.")] = 2,
    scratch: Annotated[
        Path | None, typer.Option("--scratch", help="Where the dump is unpacked; else the state directory.")
    ] = None,
    as_json: output.Json = False,
) -> None:
    """A database from a logical backup, or one table of it with what belongs to it.

    Nothing is written over data. A new database appears under its name when it is whole, its rows are counted
    and equal to the backup's, and only its owner may enter it. What a table restored alone has to do without
    (foreign keys to tables that are not there) is listed.
    """
    with output.errors("restore logical", as_json=as_json):
        from bilten_orchestration.backups.postgres.logical_restore import restore
        from bilten_orchestration.settings_loading import load_settings

        settings = load_settings()
        report = restore(
            settings,
            backup,
            into,
            database=database,
            table=table,
            server=_server(settings.postgres, host, port, user),
            roles=with_globals,
            owners=not no_owner,
            jobs=jobs,
            scratch=scratch,
            progress=output.say,
        )
        output.finish("restore logical", report, as_json=as_json, human=lambda: _show_logical(report))


def _server(
    configured: PostgresSettings, host: str | None, port: int | None, user: str | None
) -> PostgresSettings | None:
    """Another server than the configured one; its password is never an argument, which everybody can see."""
    if host is None and port is None and user is None:
        return None
    from pydantic import SecretStr

    given = {"host": host, "port": port, "user": user}
    return configured.model_copy(
        update={name: value for name, value in given.items() if value is not None}
        | {"password": SecretStr(os.environ.get("PGPASSWORD", ""))}
    )


def _show_logical(report: LogicalRestoreReport) -> None:
    print(f"{report.into}: {report.database} as of {report.backup_id}")
    print(f"{report.rows:,} rows in {report.tables} tables, as many as in the backup")
    print(
        f"fetched in {report.fetch_seconds:.1f} s, restored in {report.restore_seconds:.1f} s, "
        f"counted in {report.count_seconds:.1f} s"
    )
    for heading, names in (
        ("roles made", report.roles.made),
        ("roles kept as they were", report.roles.kept),
        ("without its rows", report.empty),
        ("left out, for it needs what is not there", report.left_out),
        ("pg_restore warns", report.warnings),
    ):
        if names:
            print(f"{heading}:")
            for name in names:
                print(f"  {name}")
