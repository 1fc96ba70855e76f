"""Logical backups: pg_dump of each of the platform's databases, and the roles, streamed as they come.

One backup holds the operational database and Dagster's. Nothing is staged. In order, and what a kill leaves:

    1. the locks of lock.py are taken; `snapshot`, shared        nothing: they go with their sessions
    2. pg_dumpall --globals-only is stored                       objects without a manifest: swept later
    3. for each database: pg_dump | pg_restore counts | slices   the same; the server ends the dump when its
       | zstd | AES | store                                      client is gone
    4. what restoring needs beside the dumps is stored           the same
    5. the manifest is signed and stored                         a backup

pg_dump's own compression is off: ours packs better and in parallel. Each dump is cut anywhere: its objects
follow each other, by number, under <database>.dump/.

A table that DDL holds makes pg_dump wait; for `table_wait_seconds`, then the backup gives up and says who
holds it.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from bilten_orchestration.backups import lock
from bilten_orchestration.backups.postgres import databases, dump_rows, programs, server
from bilten_orchestration.backups.report import BackupReport
from bilten_orchestration.backups.repository import catalogue, objects
from bilten_orchestration.backups.repository.chunks import ahead, cut
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest, new_id
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.backups.told import Told
from bilten_orchestration.errors import LockHeld, Mismatch
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock

GLOBALS = "globals.sql"
DATABASES = "databases.json"
_NAME = "bilten logical backup"
_MAY = "select rolsuper from pg_roles where rolname = current_user"
_HOLDERS = """
    select concat_ws(', ', coalesce('pid ' || a.pid, 'a prepared transaction'), a.usename,
                     nullif(a.application_name, ''),
                     'since ' || to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS'),
                     'on ' || string_agg(distinct l.relation::regclass::text, ' '))
    from pg_locks l left join pg_stat_activity a using (pid)
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.granted
      and l.database = (select oid from pg_database where datname = current_database())
    group by a.pid, a.usename, a.application_name, a.xact_start
"""


def take(settings: Settings, *, run: str | None = None, progress: Progress = silent) -> BackupReport:
    """Dump the platform's databases and the roles. Manifest.counts: rows by `database.schema.table`.

    Raises LockHeld (another backup of this server, a table that is locked too long), Refused (other
    programs), Mismatch (pg_dump failed, pg_restore cannot read what it wrote, an object was not kept),
    StoreUnavailable, AccessRefused.
    """
    began = time.monotonic()
    with translated("the backup"), ExitStack() as stack:
        connection = stack.enter_context(
            postgres.connect(settings.postgres, application_name=_NAME, autocommit=True)
        )
        stack.enter_context(lock.held(settings, "postgres", progress))
        found = server.facts(connection)
        bin_directory = programs.directory(settings.postgres, found.major)
        dumped = [_look(settings, name, role) for name, role in databases.of(settings.postgres)]
        if not key_file(settings).exists():
            progress(f"making {key_file(settings)}: no backup can be read without it, keep a copy elsewhere")
        opened = stack.enter_context(Opened.of(settings, progress=progress))
        started_at = datetime.now(UTC)
        backup_id = new_id("postgres", "logical", started_at)
        # detach and drop of partitions are not MVCC
        stack.enter_context(
            advisory_lock(
                connection,
                "snapshot",
                shared=True,
                wait_seconds=settings.backups.lock_wait_seconds,
                on_wait=lambda holders: progress(f"waiting for partitions to be detached: {holders}"),
            )
        )
        superuser = connection.execute(_MAY).fetchone() == (True,)
        roles = _globals(settings, bin_directory, passwords=superuser)
        others = {
            GLOBALS: opened.put(backup_id, objects.name_of("postgres", backup_id, GLOBALS), [roles]),
        }
        stored: list[BackupObject] = []
        counts: dict[str, int] = {}
        for database in dumped:
            progress(f"{backup_id}: {database.name}, {database.bytes >> 20:,} MiB with its indexes")
            rows = _dump(settings, opened, backup_id, database, bin_directory, stored, progress)
            counts |= {counted_as(database.name, *table): number for table, number in rows.items()}
        name = objects.name_of("postgres", backup_id, DATABASES)
        others[DATABASES] = opened.put(backup_id, name, [databases.written(dumped)])
        taken = Manifest(
            id=backup_id,
            store="postgres",
            kind="logical",
            source=found.system_identifier,
            started_at=started_at,
            finished_at=datetime.now(UTC),
            raw_bytes=sum(each.raw_bytes for each in stored),
            codec=settings.backups.codec,
            objects=tuple(stored),
            key_id=opened.ring.current,
            versions={"postgres": found.version},
            others=others,
            run=run,
            counts=counts,
            details={
                "databases": ", ".join(database.name for database in dumped),
                "roles": "with passwords (as verifiers)"
                if superuser
                else f"without passwords: {settings.postgres.user} is no superuser",
            },
        )
        catalogue.add(opened.repository, opened.ring, taken)
    return BackupReport(taken, time.monotonic() - began)


def counted_as(database: str, schema: str, table: str) -> str:
    """The name of a table in Manifest.counts."""
    return f"{database}.{schema}.{table}"


def objects_of(manifest: Manifest, database: str) -> tuple[BackupObject, ...]:
    """The dump of one database, in order."""
    prefix = objects.name_of("postgres", manifest.id, f"{_directory(database)}/")
    return tuple(each for each in manifest.objects if each.name.startswith(prefix))


def _directory(database: str) -> str:
    return f"{quote(database, safe='')}.dump"


def _look(settings: Settings, name: str, role: postgres.Role) -> databases.Database:
    with postgres.connect(
        settings.postgres, role, application_name=_NAME, autocommit=True, database=name
    ) as connection:
        return databases.look(connection, name, role)


def _globals(settings: Settings, bin_directory: Path, *, passwords: bool) -> bytes:
    database = settings.postgres.database
    with (
        programs.connection_arguments(settings.postgres, _NAME, database=database) as (conninfo, environment),
        programs.reading(
            [
                bin_directory / "pg_dumpall",
                f"--dbname={conninfo}",
                f"--database={database}",
                "--globals-only",
                "--no-password",
                # the verifiers are in pg_authid, which superusers alone may read
                *([] if passwords else ["--no-role-passwords"]),
            ],
            environment,
        ) as said,
    ):
        return b"".join(said)


def _dump(
    settings: Settings,
    opened: Opened,
    backup_id: str,
    database: databases.Database,
    bin_directory: Path,
    stored: list[BackupObject],
    progress: Progress,
) -> dict[dump_rows.Table, int]:
    """Store the dump of one database; the rows of its tables."""
    told = Told(progress, database.bytes)
    with ExitStack() as stack:
        conninfo, environment = stack.enter_context(
            programs.connection_arguments(
                settings.postgres, f"bilten {backup_id}", database.role, database=database.name
            )
        )
        reader = stack.enter_context(dump_rows.counted(bin_directory / "pg_restore"))
        stream = stack.enter_context(
            programs.reading(
                [
                    bin_directory / "pg_dump",
                    f"--dbname={conninfo}",
                    "--format=custom",
                    "--compress=0",
                    "--no-password",
                    f"--lock-wait-timeout={settings.backups.table_wait_seconds * 1000}",
                ],
                environment,
            )
        )
        read = stack.enter_context(ahead(reader.through(told.counting(stream))))
        try:
            place = f"{_directory(database.name)}/"
            stored += opened.put_slices(
                backup_id,
                (
                    (objects.name_of("postgres", backup_id, f"{place}{number:06}"), None, piece)
                    for number, piece in enumerate(cut(read, settings.backups.slice_bytes))
                ),
            )
        except Mismatch as error:
            if any("timeout" in each.found and "LOCK TABLE" in each.found for each in error.problems):
                raise _locked(settings, database, error) from None
            raise
        return reader.rows()


def _locked(settings: Settings, database: databases.Database, error: Mismatch) -> LockHeld:
    with postgres.connect(
        settings.postgres, database.role, application_name=_NAME, autocommit=True, database=database.name
    ) as connection:
        holders = "; ".join(text for (text,) in connection.execute(_HOLDERS).fetchall())
    return LockHeld(
        f"pg_dump of {database.name} waited too long for a table that DDL holds",
        expected=f"free within {settings.backups.table_wait_seconds} s (BILTEN_BACKUPS__TABLE_WAIT_SECONDS)",
        found=holders or f"nobody any more: {error.problems[0].found}",
        next="wait for it to end, or end it if it hangs: select pg_terminate_backend(pid)",
    )
