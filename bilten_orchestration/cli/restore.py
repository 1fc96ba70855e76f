"""`bilten restore STORE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import BucketChoice, FromBucket, size

if TYPE_CHECKING:
    from bilten_orchestration.backups.postgres.restore import RestoreReport


def register(app: typer.Typer) -> None:
    restore = typer.Typer(help="From a backup into a new place.", no_args_is_help=True)
    restore.callback()(_group)
    restore.command("postgres")(postgres)
    app.add_typer(restore, name="restore")


def _group() -> None:
    """From a backup into a new place."""  # makes it a group, though it has one command as yet


def postgres(
    backup: Annotated[str, typer.Option("--backup", help="Its id, as `bilten backup list` shows it.")],
    to: Annotated[Path, typer.Option("--to", help="A directory that does not exist, or is empty.")],
    bucket: FromBucket = BucketChoice.first,
    as_json: output.Json = False,
) -> None:
    """The data directory of one backup, verified by pg_verifybackup; it is not started.

    Nothing is written over files that exist. Started, it recovers to the moment at which the backup ended.
    """
    with output.errors("restore postgres", as_json=as_json):
        from bilten_orchestration.backups.postgres.restore import restore
        from bilten_orchestration.settings_loading import load_settings

        report = restore(load_settings(), backup, to, bucket=bucket.value, progress=output.say)
        output.finish("restore postgres", report, as_json=as_json, human=lambda: _show_postgres(report))


def _show_postgres(report: RestoreReport) -> None:
    print(f"{report.directory}: {size(report.bytes)}, as of {report.backup_id}")
    combined = f"combined in {report.combine_seconds:.1f} s, " if report.combine_seconds else ""
    print(f"unpacked in {report.unpack_seconds:.1f} s, {combined}verified in {report.verify_seconds:.1f} s")
