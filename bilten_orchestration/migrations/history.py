"""system.migrations: what was run on both stores, kept in PostgreSQL.

The table must exist before the first migration, so the runner makes it (`bootstrap`) and no migration
may touch it. One row per store and version; a later attempt writes over the row of an earlier one.

    running         an up was begun; if nobody holds the lock `migrations`, its runner died
    completed       the up is done
    failed          the up failed (`error`, `failed_at`)
    reverting       a down was begun
    revert_failed   the down failed
    reverted        the down is done: as if never applied

`running` and `reverting` are committed before the first statement; `completed` and `reverted` are
written in the migration's own transaction where it has one, so that a kill at any line leaves either
all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast, get_args

from bilten_orchestration.migrations.files import Direction, Migration
from bilten_orchestration.migrations.statements import Store
from bilten_orchestration.stores.postgres import Connection

LOCK = "migrations"

RecordStatus = Literal["running", "completed", "failed", "reverting", "revert_failed", "reverted"]

_BOOTSTRAP = f"""
create schema if not exists system;
create table if not exists system.migrations (
    store text not null check (store in ('postgres', 'clickhouse')),
    version integer not null check (version > 0),
    name text not null,
    description text not null default '',
    checksum text not null check (checksum ~ '^[0-9a-f]{{64}}$'),
    down_checksum text check (down_checksum ~ '^[0-9a-f]{{64}}$'),
    started_at timestamptz not null default clock_timestamp(),
    completed_at timestamptz,
    failed_at timestamptz,
    status text not null check (status in ({", ".join(f"'{status}'" for status in get_args(RecordStatus))})),
    error text,
    primary key (store, version),
    constraint migrations_completed check (status <> 'completed' or completed_at is not null),
    constraint migrations_failed check (
        status not in ('failed', 'revert_failed') or (failed_at is not null and error is not null)
    )
);
comment on schema system is
    'State of the platform itself: migrations, sync, builds, partitions, drills, incidents';
comment on table system.migrations is
    'Migrations of both stores, one row per store and version; written by the migration runner alone';
comment on column system.migrations.store is
    'Database that the migration changes: postgres or clickhouse';
comment on column system.migrations.version is
    'Number in the file name V0001__name';
comment on column system.migrations.name is
    'Name in the file name V0001__name';
comment on column system.migrations.description is
    'The description line at the top of the up file';
comment on column system.migrations.checksum is
    'SHA-256 of the up file as it was run, line ends as LF';
comment on column system.migrations.down_checksum is
    'SHA-256 of the down file that lay beside the up file then; null where an older release ran it';
comment on column system.migrations.started_at is
    'Begin of the last attempt, up or down';
comment on column system.migrations.completed_at is
    'End of the last attempt that succeeded';
comment on column system.migrations.failed_at is
    'End of the last attempt, if it failed';
comment on column system.migrations.status is
    'running, completed, failed; reverting, reverted, revert_failed for a down';
comment on column system.migrations.error is
    'Why the last attempt failed: statement, line and the message of the server';
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of system.migrations."""

    store: Store
    version: int
    name: str
    description: str
    checksum: str
    down_checksum: str | None
    started_at: datetime
    completed_at: datetime | None
    failed_at: datetime | None
    status: RecordStatus
    error: str | None


History = Mapping[tuple[Store, int], Record]


def exists(connection: Connection) -> bool:
    row = connection.execute("select to_regclass('system.migrations') is not null").fetchone()
    return bool(row and row[0])


def bootstrap(connection: Connection) -> None:
    """Make schema, table and what a release before has not; the caller holds the lock."""
    if not exists(connection):
        with connection.transaction():
            connection.execute(_BOOTSTRAP)
    elif _is_older(connection):  # asked first: the lock of an ALTER would wait for whoever reads the table
        connection.execute(
            "alter table system.migrations add column down_checksum text"
            " check (down_checksum ~ '^[0-9a-f]{64}$')"
        )


def _is_older(connection: Connection) -> bool:
    row = connection.execute(
        "select from pg_attribute where attrelid = 'system.migrations'::regclass"
        " and attname = 'down_checksum' and not attisdropped"
    ).fetchone()
    return row is None


def read(connection: Connection) -> History:
    """Every record; empty where the table does not exist yet. What an older release wrote, as a drill may
    find it in a backup, has no `down_checksum`."""
    if not exists(connection):
        return {}
    rows = connection.execute(
        """
        select store, version, name, description, checksum, to_jsonb(m) ->> 'down_checksum',
               started_at, completed_at, failed_at, status, error
        from system.migrations m order by store, version
        """
    ).fetchall()
    return {(cast(Store, row[0]), cast(int, row[1])): Record(*row) for row in rows}


def begin(connection: Connection, migration: Migration, direction: Direction) -> None:
    connection.execute(
        """
        insert into system.migrations as m
            (store, version, name, description, checksum, down_checksum, started_at, status)
        values (%(store)s, %(version)s, %(name)s, %(description)s, %(checksum)s, %(down_checksum)s,
                clock_timestamp(), %(status)s)
        on conflict (store, version) do update set
            name = excluded.name, description = excluded.description, started_at = excluded.started_at,
            -- a down does not vouch for the files that lie there now
            checksum = case when excluded.status = 'running' then excluded.checksum else m.checksum end,
            down_checksum = case when excluded.status = 'running' then excluded.down_checksum
                                 else m.down_checksum end,
            completed_at = null, failed_at = null, status = excluded.status, error = null
        """,
        {
            "store": migration.store,
            "version": migration.version,
            "name": migration.name,
            "description": migration.description,
            "checksum": migration.up.checksum,
            "down_checksum": migration.down.checksum,
            "status": "running" if direction == "up" else "reverting",
        },
    )


def complete(connection: Connection, migration: Migration, direction: Direction) -> None:
    connection.execute(
        """
        update system.migrations set status = %s, completed_at = clock_timestamp()
        where (store, version) = (%s, %s)
        """,
        ("completed" if direction == "up" else "reverted", migration.store, migration.version),
    )


def fail(connection: Connection, migration: Migration, direction: Direction, error: str) -> None:
    connection.execute(
        """
        update system.migrations set status = %s, failed_at = clock_timestamp(), error = %s
        where (store, version) = (%s, %s)
        """,
        ("failed" if direction == "up" else "revert_failed", error, migration.store, migration.version),
    )


def forget(connection: Connection, store: Store) -> None:
    """Take everything of a store for reverted: the server that it was run on is gone."""
    connection.execute("update system.migrations set status = 'reverted' where store = %s", (store,))
