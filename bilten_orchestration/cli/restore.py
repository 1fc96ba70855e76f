"""`bilten restore STORE`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import keys_by_database, size

if TYPE_CHECKING:
    from bilten_orchestration.backups.postgres.restore import RestoreReport
    from bilten_orchestration.backups.redis.restore import RestoreReport as RedisReport


def register(app: typer.Typer) -> None:
    restore = typer.Typer(help="From a backup into a new place.", no_args_is_help=True)
    restore.command("postgres")(postgres)
    restore.command("redis")(redis)
    app.add_typer(restore, name="restore")


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


def redis(
    backup: Annotated[str, typer.Option("--backup", help="Its id, as `bilten backup list` shows it.")],
    to: Annotated[Path, typer.Option("--to", help="A directory that does not exist, or is empty.")],
    start: Annotated[
        bool, typer.Option("--start", help="Leave a server running on it, on a socket, without a port.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """A data directory of Redis from a backup, loaded and counted by a server of our own.

    Nothing is written over files that exist. It holds the snapshot and an append-only file, so that a server
    with `appendonly yes` starts on it.
    """
    with output.errors("restore redis", as_json=as_json):
        from bilten_orchestration.backups.redis.restore import restore
        from bilten_orchestration.settings_loading import load_settings

        report = restore(load_settings(), backup, to, start=start, progress=output.say)
        output.finish(
            "restore redis",
            {**asdict(report), "stop": report.stop},
            as_json=as_json,
            human=lambda: _show_redis(report),
        )


def _show_redis(report: RedisReport) -> None:
    print(f"{report.directory}: {keys_by_database(report.keys)}")
    print(f"as of {report.backup_id}; {report.expired:,} keys have expired since")
    print(
        f"fetched in {report.download_seconds:.1f} s, checked in {report.check_seconds:.1f} s, "
        f"loaded in {report.load_seconds:.1f} s,\nappended in {report.append_seconds:.1f} s, "
        f"loaded again in {report.reload_seconds:.1f} s"
    )
    if report.owner is not None:
        print(f"{report.owner} owns the files: chown -R them before another user's server starts")
    if report.dsn is not None:
        print(f"runs at {report.dsn}\nto stop it: {report.stop}")
