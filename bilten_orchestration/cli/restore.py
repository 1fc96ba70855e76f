"""`bilten restore STORE`."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import clickhouse_backups, output
from bilten_orchestration.cli.backup import BucketChoice, FromBucket, keys_by_database, size

if TYPE_CHECKING:
    from bilten_orchestration.backups.postgres.logical_restore import LogicalRestoreReport
    from bilten_orchestration.backups.postgres.restore import RestoreReport
    from bilten_orchestration.backups.postgres.targets import Target
    from bilten_orchestration.backups.redis.restore import RestoreReport as RedisReport
    from bilten_orchestration.settings import PostgresSettings


def register(app: typer.Typer) -> None:
    restore = typer.Typer(help="From a backup into a new place.", no_args_is_help=True)
    restore.command("postgres")(postgres)
    restore.command("stop")(stop)
    restore.command("logical")(logical)
    restore.command("redis")(redis)
    restore.command("clickhouse")(clickhouse_backups.clickhouse)
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
    exclusive: Annotated[
        bool,
        typer.Option("--exclusive", help="Stop just before that moment, position or transaction."),
    ] = False,
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
        from bilten_orchestration.settings.loading import load_settings

        target = _target(time, lsn, xid, name, backup, timeline, latest=latest)
        if exclusive:
            target = _just_before(target)
        report = restore(load_settings(), target, to, start=start, bucket=bucket.value, progress=output.say)
        output.finish("restore postgres", report, as_json=as_json, human=lambda: _show_postgres(report))


def stop(
    directory: Annotated[Path, typer.Argument(help="What --to was.", metavar="DIR")],
    as_json: output.Json = False,
) -> None:
    """Stop the server that `bilten restore postgres|redis --start` has started. Its files stay."""
    with output.errors("restore stop", as_json=as_json):
        from bilten_orchestration.backups.postgres import private
        from bilten_orchestration.backups.redis import scratch

        ran = bool(scratch.end(directory)) if directory.is_dir() else False
        if not ran:
            ran = private.stop(directory)
        output.finish(
            "restore stop",
            {"directory": directory, "ran": ran},
            as_json=as_json,
            human=lambda: print(f"{directory}: {'stopped' if ran else 'did not run'}"),
        )


def _just_before(target: Target) -> Target:
    from bilten_orchestration.errors import UsageError

    if target.kind not in ("moment", "lsn", "xid"):
        raise UsageError(
            "--exclusive says nothing of this target",
            expected="it with --target-time, --target-lsn or --target-xid",
            found=target.kind,
        )
    return replace(target, inclusive=False)


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
        from bilten_orchestration.settings.loading import load_settings

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


def redis(
    backup: Annotated[str, typer.Option("--backup", help="Its id, as `bilten backup list` shows it.")],
    to: Annotated[Path, typer.Option("--to", help="A directory that does not exist, or is empty.")],
    start: Annotated[
        bool, typer.Option("--start", help="Leave a server running on it, on a socket, without a port.")
    ] = False,
    bucket: FromBucket = BucketChoice.first,
    as_json: output.Json = False,
) -> None:
    """A data directory of Redis from a backup, loaded and counted by a server of our own.

    Nothing is written over files that exist. It holds the snapshot and an append-only file, so that a server
    with `appendonly yes` starts on it.
    """
    with output.errors("restore redis", as_json=as_json):
        from bilten_orchestration.backups.redis.restore import restore
        from bilten_orchestration.settings.loading import load_settings

        report = restore(load_settings(), backup, to, start=start, bucket=bucket.value, progress=output.say)
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
