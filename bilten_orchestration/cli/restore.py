"""`bilten restore STORE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import BucketChoice, FromBucket, size

if TYPE_CHECKING:
    from bilten_orchestration.backups.postgres.restore import RestoreReport
    from bilten_orchestration.backups.postgres.targets import Target


def register(app: typer.Typer) -> None:
    restore = typer.Typer(help="From a backup into a new place.", no_args_is_help=True)
    restore.command("postgres")(postgres)
    restore.command("stop")(stop)
    app.add_typer(restore, name="restore")


def postgres(
    to: Annotated[Path, typer.Option("--to", help="A directory that does not exist, or is empty.")],
    time: Annotated[
        str | None,
        typer.Option("--target-time", help="The moment to restore, with its zone: 2026-11-21T03:15:00Z."),
    ] = None,
    lsn: Annotated[str | None, typer.Option("--target-lsn", help="A position of WAL: 0/3000148.")] = None,
    xid: Annotated[str | None, typer.Option("--target-xid", help="Up to and with a transaction.")] = None,
    name: Annotated[
        str | None, typer.Option("--target-name", help="A restore point (pg_create_restore_point).")
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="All that is stored.")] = False,
    backup: Annotated[
        str | None,
        typer.Option("--backup", help="A backup as of its end; with another target, what to start from."),
    ] = None,
    timeline: Annotated[
        int | None, typer.Option("--timeline", help="Another one than production is on.", min=1)
    ] = None,
    bucket: FromBucket = BucketChoice.first,
    start: Annotated[
        bool, typer.Option("--start", help="Start it on a private socket, and wait for its recovery.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """PostgreSQL as of a moment, in a new directory; verified by pg_verifybackup.

    One target is given. What cannot be reached is refused, with the nearest moment that can, before anything
    is written; nothing is ever written over files. Without --start, starting the server there recovers it.
    """
    with output.errors("restore postgres", as_json=as_json):
        from bilten_orchestration.backups.postgres.restore import restore
        from bilten_orchestration.settings_loading import load_settings

        target = _target(time, lsn, xid, name, backup, timeline, latest=latest)
        report = restore(load_settings(), target, to, start=start, bucket=bucket.value, progress=output.say)
        output.finish("restore postgres", report, as_json=as_json, human=lambda: _show_postgres(report))


def stop(
    directory: Annotated[Path, typer.Argument(help="What --to was.", metavar="DIR")],
    as_json: output.Json = False,
) -> None:
    """Stop the server that `bilten restore postgres --start` has started. Its files stay."""
    with output.errors("restore stop", as_json=as_json):
        from bilten_orchestration.backups.postgres import private

        ran = private.stop(directory)
        output.finish(
            "restore stop",
            {"directory": directory, "ran": ran},
            as_json=as_json,
            human=lambda: print(f"{directory}: {'stopped' if ran else 'did not run'}"),
        )


def _target(
    time: str | None,
    lsn: str | None,
    xid: str | None,
    name: str | None,
    backup: str | None,
    timeline: int | None,
    *,
    latest: bool,
) -> Target:
    from bilten_orchestration.backups.postgres.targets import Target
    from bilten_orchestration.errors import UsageError

    given = [
        target
        for target in (
            None if time is None else Target("moment", time, backup, timeline),
            None if lsn is None else Target("lsn", lsn, backup, timeline),
            None if xid is None else Target("xid", xid, backup, timeline),
            None if name is None else Target("name", name, backup, timeline),
            Target("latest", "", backup, timeline) if latest else None,
        )
        if target is not None
    ]
    if not given and backup is not None:
        return Target("backup", backup)
    if len(given) != 1:
        raise UsageError(
            "a restore wants one target",
            expected="one of --target-time, --target-lsn, --target-xid, --target-name, --latest, --backup",
            found=f"{len(given)} of them",
            next="bilten reach shows what can be restored",
        )
    return given[0]


def _show_postgres(report: RestoreReport) -> None:
    print(f"{report.directory}: {size(report.bytes)} from {report.backup_id}")
    phases = report.phases
    combined = f"combined {phases.combine_seconds:.1f} s, " if phases.combine_seconds else ""
    print(
        f"fetched {phases.fetch_seconds:.1f} s, {combined}verified {phases.verify_seconds:.1f} s,"
        f" {report.segments} segments of WAL"
    )
    if report.dsn is None:
        print("not started; it recovers when it is: pg_ctl start -D, or --start")
        return
    reached = "no commit replayed" if report.reached_at is None else f"{report.reached_at:%F %T.%f} UTC"
    print(f"reached {reached}, {report.reached_lsn}, in {phases.start_seconds:.1f} s")
    print(f'psql "{report.dsn}"')
    print(f"bilten restore stop {report.directory}")
