"""A server beside production, just before a transaction's commit and just after: what it changed.

Replay stops twice on one restored directory. Before the commit record the server is only read: the
transaction's writes are in the pages, but it counts as running, so that every row that it deleted or updated
is visible still and names it (or a multixact of it) as its deleter. Then replay goes on over the one commit,
and the server takes over: rows that name it as their writer are what it left. Between the two nobody else
committed, so the difference is what it did, no more and no less.

Nothing here reaches production; what a kill leaves lies in the scratch place (backups/scratch.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from bilten_orchestration.backups.postgres import private, programs
from bilten_orchestration.backups.postgres.private import Running
from bilten_orchestration.backups.postgres.restore import RestoreReport, restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository.opened import Bucket
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.progress import Progress
from bilten_orchestration.recovery import evidence, tables
from bilten_orchestration.recovery.candidates import OWN_SCHEMAS
from bilten_orchestration.recovery.evidence import Evidence
from bilten_orchestration.recovery.images import COPIED, SCRATCH, Image, copy_out, narrow, texts
from bilten_orchestration.recovery.tables import Table
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

_NOT_DATA = ("pg_catalog", "pg_toast", "information_schema", *OWN_SCHEMAS)


@dataclass(frozen=True, slots=True)
class Beside:
    """`left_out` are tables that were written and are not recovered: the platform's own records."""

    restored: RestoreReport
    evidence: Evidence
    images: tuple[Image, ...]
    left_out: tuple[str, ...]


def changes(
    settings: Settings,
    transaction: int,
    place: Path,
    *,
    backup: str | None,
    bucket: Bucket,
    progress: Progress,
) -> Beside:
    """What a transaction changed. `backup` is what to start from, or None for the oldest that reaches it.

    Raises as `restore` and `evidence.read` do; Refused for what rows alone cannot bring back (a TRUNCATE,
    DDL, a table without a primary key).
    """
    directory = place / "server"
    target = Target("xid", str(transaction % (1 << 32)), backup, inclusive=False)
    report = restore(settings, target, directory, bucket=bucket, progress=progress)
    major = int((directory / "PG_VERSION").read_text())
    bin_directory = programs.directory(settings.postgres, major)
    progress(f"looking for transaction {transaction} in {report.segments} segments of WAL")
    wal = directory / "bilten_wal"
    found = evidence.read(bin_directory, wal, transaction, _segment_bytes(wal))
    progress(f"committed {found.committed_at:%F %T.%f} UTC at {found.commit_lsn}")

    files = place / "rows"
    files.mkdir(
        0o700
    )  # whole rows of production lie there, and the place itself is open to the server's user
    _tell(directory, recovery_target_action="pause")
    running = _start(settings, directory, bin_directory, progress, paused=True)
    try:
        with running.connect() as connection:
            connection.execute(COPIED)
            touched, left_out = _touched(connection, found)
            deleters = [*found.xids, *found.multixacts]
            images = []
            for number, table in enumerate(touched):
                image = Image(table, files / f"{number}.before", files / f"{number}.after")
                copy_out(
                    connection,
                    sql.SQL("select {} from {} t where xmax::text = any({})").format(
                        table.list(), table.name_sql, texts(deleters)
                    ),
                    image.before,
                )
                images.append(image)
    finally:
        private.stop(directory)
    _tell(directory, recovery_target_action="promote", recovery_target_inclusive="on")
    running = _start(settings, directory, bin_directory, progress)
    try:
        with running.connect() as connection:
            connection.execute(COPIED)
            connection.execute(f"create schema {SCRATCH}")
            for image in images:
                narrow(connection, image, found)
    finally:
        private.stop(directory)
    return Beside(report, found, tuple(images), left_out)


def _start(
    settings: Settings, directory: Path, bin_directory: Path, progress: Progress, *, paused: bool = False
) -> Running:
    progress("replaying up to just before its commit" if paused else "replaying its commit")
    owner = private.owner_of(directory)
    options = private.bounded(settings.drills.shared_buffers_megabytes)
    return private.start(
        directory, bin_directory, settings.postgres, owner, progress, options=options, paused=paused
    )


def _tell(directory: Path, **told: str) -> None:
    """What comes last in that file counts."""
    with (directory / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in told.items())


def _segment_bytes(wal: Path) -> int:
    return next(
        (path.stat().st_size for path in sorted(wal.iterdir()) if positions.is_segment(path.name)),
        positions.SEGMENT_BYTES,
    )


def _touched(connection: Connection, found: Evidence) -> tuple[list[Table], tuple[str, ...]]:
    row = connection.execute("select oid::int from pg_database where datname = current_database()").fetchone()
    assert row is not None  # noqa: S101
    database = row[0]
    relations = {
        name
        for file in found.files
        if file.database == database
        for name in _names(connection, "pg_filenode_relation(%s, %s)", (file.tablespace, file.file))
    }
    locked = {
        name
        for db, relation in found.locked
        if db == database
        for name in _names(connection, "%s::regclass", (relation,))
    }
    wanted = sorted(name for name in relations if name[0] not in _NOT_DATA)
    problems = [
        Problem(
            f"transaction {found.transaction} held {'.'.join(name)} for itself alone",
            expected="INSERT, UPDATE and DELETE: rows can be copied back",
            found="TRUNCATE or DDL, under an ACCESS EXCLUSIVE lock",
            next="bilten restore postgres --target-xid ID --exclusive; copy what is needed from there",
        )
        for name in sorted(locked)
        if name[0] not in _NOT_DATA
    ]
    described = [tables.describe(connection, schema, table) for schema, table in wanted]
    problems += [
        Problem(
            f"{table.name} has no primary key: its rows cannot be told apart",
            expected="a primary key",
            found="none",
            next="bilten restore postgres --target-xid ID --exclusive stops before it; compare there by hand",
        )
        for table in described
        if not table.key
    ]
    if problems:
        raise Refused(problems)
    left_out = sorted(".".join(name) for name in relations if name[0] in OWN_SCHEMAS)
    return described, tuple(left_out)


def _names(connection: Connection, expression: str, values: Sequence[int]) -> list[tuple[str, str]]:
    """Schema and name of a table: of a partition, those of its parent; of an index or a toast table, none."""
    found = connection.execute(
        "select n.nspname, c.relname from pg_class r"
        " join pg_class c on c.oid = coalesce(pg_partition_root(r.oid), r.oid)"
        f" join pg_namespace n on n.oid = c.relnamespace where r.oid = {expression}::oid"
        " and r.relkind in ('r', 'p')",
        tuple(values),
    ).fetchall()
    return [(str(schema), str(name)) for schema, name in found]
