"""A database, or one table, from a logical backup.

1. backup, key, programs, server, database, roles, room are looked at    nothing is written
2. the dump is fetched into a scratch file that has no name (pg_restore -j wants to seek): it goes with
   us, whatever ends us
3. with `roles`, those that are missing are made, in one transaction     a kill leaves all or none
4. a new database grows as <name>.restoring, filled by pg_restore -j     a kill leaves that; the next
                                                                         call for the name drops it
   one that exists is filled in one transaction                          a kill leaves nothing
5. rows are counted and compared with the manifest
6. it is renamed to <name>
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.backups.postgres import databases, dump_contents, globals, pg_restore, programs
from bilten_orchestration.backups.postgres.logical import DATABASES, GLOBALS, counted_as, objects_of
from bilten_orchestration.backups.postgres.logical_target import NAME, Target, connect, count
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import NO_ROOM, Mismatch, Problem, Refused, UsageError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import PostgresSettings, Settings
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import parameters

_AT_ONCE = 2
_ROOM = 1.02  # file systems count their own blocks


@dataclass(frozen=True, slots=True)
class LogicalRestoreReport:
    """`database` of the backup is now `into`; `rows` of `tables` were counted there and are the manifest's.
    `empty` and `left_out` as in dump_contents.Selection. Seconds by phase."""

    backup_id: str
    database: str
    into: str
    tables: int
    rows: int
    empty: tuple[str, ...]
    left_out: tuple[str, ...]
    roles: globals.Roles
    warnings: tuple[str, ...]
    fetch_seconds: float
    restore_seconds: float
    count_seconds: float


def restore(
    settings: Settings,
    backup_id: str,
    into: str,
    *,
    database: str | None = None,
    table: str | None = None,
    server: PostgresSettings | None = None,
    roles: bool = False,
    owners: bool = True,
    jobs: int = 2,
    scratch: Path | None = None,
    bucket: Bucket = "first",
    progress: Progress = silent,
) -> LogicalRestoreReport:
    """Restore a database of the backup (None: the operational one), or one `schema.table` of it.

    `into` is a new database of `server` (None: the configured one), or an empty one; for a table any that has
    none of that name. With `roles` those that are missing are made first; without `owners` everything is the
    role's that restores. `scratch` (None: the state directory) has room for the dump. `bucket`
    copy reads the second one.

    Raises Refused or UsageError before anything is written, Mismatch (no such backup, lost key, damaged
    objects, errors of pg_restore, other rows than in the manifest), LockHeld, StoreUnavailable.
    """
    place, server = scratch or settings.home, server or settings.postgres
    with translated("the restore"), ExitStack() as stack:
        opened = stack.enter_context(Opened.of(settings, new=False, bucket=bucket, progress=progress))
        manifest = logical_backup(opened, backup_id)
        source = _source(opened, manifest, database)
        wanted = None if table is None else _table(source, table)
        program = programs.directory(settings.postgres, source.major, or_newer=True) / "pg_restore"
        target = stack.enter_context(Target.of(server, into))
        stack.enter_context(advisory_lock(target.connection, f"restore:{into}"))
        dump = objects_of(manifest, source.name)
        problems = target.problems(source, wanted, owners=owners, roles_come=roles)
        problems += _of_room(place, sum(each.raw_bytes for each in dump))
        if problems:
            raise Refused(problems)
        began = time.monotonic()
        file = stack.enter_context(fetched(opened, manifest, dump, place, progress))
        fetched_at = time.monotonic()
        entries = dump_contents.parse(pg_restore.listing(program, file))
        chosen = _chosen(entries, source, wanted, target)
        made = _make_roles(opened, manifest, target) if roles else globals.Roles()
        if target.drop_growing():
            progress(f"dropped {target.growing}, which a restore that was killed left")
        if target.new:
            target.create(source, owners=owners)
        warnings = pg_restore.run(
            program,
            file,
            {**parameters(server, application_name=NAME), "dbname": target.growing},
            (each.line for each in chosen.entries),
            [
                # what exists must not be left half changed
                f"--jobs={jobs}" if target.new else "--single-transaction",
                # those of the server that was dumped need not be here
                "--no-tablespaces",
                *_of_owners(owners),
            ],
            left=target.left,
            progress=progress,
        )
        restored_at = time.monotonic()
        progress("counting rows")
        rows = _compare(manifest, source, target, chosen)
        if target.new:
            with connect(server, target.growing) as connection:
                connection.execute("analyze")
        target.finish()
    return LogicalRestoreReport(
        backup_id,
        source.name,
        into,
        len(rows),
        sum(rows.values()),
        chosen.empty,
        chosen.left_out,
        made,
        warnings,
        fetched_at - began,
        restored_at - fetched_at,
        time.monotonic() - restored_at,
    )


def logical_backup(opened: Opened, backup_id: str) -> Manifest:
    """Raises Mismatch for an unknown backup or a lost key, Refused for one of another kind."""
    manifest = catalogue.read(opened.repository, opened.ring, "postgres").find(backup_id).manifest
    if manifest.kind != "logical":
        raise Refused(
            f"{backup_id} is no logical backup",
            expected="one that bilten backup create postgres --kind logical took",
            found=manifest.kind,
            next=f"bilten restore postgres --backup {backup_id} --to DIR",
        )
    opened.ring.key(manifest.key_id)
    return manifest


@contextmanager
def fetched(
    opened: Opened, manifest: Manifest, dump: Iterable[BackupObject], place: Path, progress: Progress
) -> Iterator[int]:
    """A descriptor of a file with the dump, which has no name and goes with the block, or with us."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place, prefix="bilten-dump-") as file:

        def one(wanted: tuple[BackupObject, int]) -> None:
            each, at = wanted
            for chunk in opened.get(manifest, each):
                left = memoryview(chunk)
                while left:
                    written = os.pwrite(file.fileno(), left, at)
                    left, at = left[written:], at + written
            progress(f"{each.name}: {each.raw_bytes >> 20:,} MiB")

        offsets, end = [], 0
        for each in dump:
            offsets.append((each, end))
            end += each.raw_bytes
        try:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore") as pool:
                list(pool.map(one, offsets))
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise Refused(_of_room(place, end) or [_no_room(place, end, 0)]) from None
        yield file.fileno()


def _source(opened: Opened, manifest: Manifest, name: str | None) -> databases.Database:
    found = databases.read(b"".join(opened.get(manifest, manifest.others[DATABASES])))
    for each in found:
        if name in (None, each.name):
            return each
    raise UsageError(
        f"the backup holds no database {name}",
        expected=" or ".join(each.name for each in found),
        found=str(name),
    )


def _table(source: databases.Database, name: str) -> tuple[str, str]:
    for table in source.tables:
        if ".".join(table) == name:
            return table
    near = [".".join(table) for table in source.tables if table[1] == name.rpartition(".")[2]]
    raise UsageError(
        f"{source.name} has no table {name} in this backup",
        expected=" or ".join(near) or "schema.table",
        found=name,
    )


def _of_room(place: Path, needed_bytes: int) -> list[Problem]:
    there = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
    free, needed = shutil.disk_usage(there).free, int(needed_bytes * _ROOM)
    return [_no_room(place, needed, free)] if free < needed else []


def _no_room(place: Path, needed: int, free: int) -> Problem:
    return Problem(
        f"{place} has too little room for the dump",
        expected=f"{needed >> 20:,} MiB",
        found=f"{free >> 20:,} MiB",
        next="--scratch a directory on another file system",
    )


def _chosen(
    entries: list[dump_contents.Entry],
    source: databases.Database,
    wanted: tuple[str, str] | None,
    target: Target,
) -> dump_contents.Selection:
    there = target.labels or frozenset()
    if wanted is not None:
        chosen = dump_contents.of_table(entries, *wanted, there)
        if chosen is None:
            raise Mismatch(
                f"the dump of {source.name} holds no table {'.'.join(wanted)}",
                expected="the table that was there when it was taken",
                found="none",
                next="restore another backup, or the whole database",
            )
        return chosen
    extensions = {label for label in there if label.startswith("EXTENSION ")}
    labels = tuple(f"TABLE {schema} {name}" for schema, name in source.tables)
    return dump_contents.Selection(tuple(dump_contents.without(entries, extensions)), labels)


def _make_roles(opened: Opened, manifest: Manifest, target: Target) -> globals.Roles:
    script = b"".join(opened.get(manifest, manifest.others[GLOBALS])).decode()
    return globals.make(target.connection, script)


def _of_owners(owners: bool) -> list[str]:
    return [] if owners else ["--no-owner", "--no-privileges"]


def _compare(
    manifest: Manifest, source: databases.Database, target: Target, chosen: dump_contents.Selection
) -> dict[tuple[str, str], int]:
    """The rows of each table that came. Raises Mismatch where they are not those of the manifest."""
    loaded = {each.label for each in chosen.entries if each.kind == "TABLE DATA"}
    tables = [table for table in source.tables if f"TABLE DATA {table[0]} {table[1]}" in loaded]
    expected = {table: manifest.counts.get(counted_as(source.name, *table)) for table in tables}
    found = count(target.server, target.growing, tables)
    problems = [
        Problem(
            f"{'.'.join(table)} has other rows than the backup",
            expected="a number in its manifest" if rows is None else f"{rows:,}",
            found=f"{found[table]:,}",
            next=target.left or "somebody writes into it: restore into a new database",
        )
        for table, rows in expected.items()
        if found[table] != rows
    ]
    if problems:
        raise Mismatch(problems)
    return found
