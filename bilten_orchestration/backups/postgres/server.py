"""What a backup must know of the server, and what forbids one: asked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.stores.postgres import Connection

OLDEST_MAJOR = 15

_FACTS = """
    select (select system_identifier from pg_control_system())::text,
           current_setting('server_version'),
           current_setting('server_version_num')::int / 10000,
           (select sum(pg_database_size(oid)) from pg_database where datallowconn)::bigint,
           (select array_agg(spcname::text order by spcname) from pg_tablespace
            where spcname not in ('pg_default', 'pg_global')),
           (select rolreplication or rolsuper from pg_roles where rolname = current_user),
           current_user::text,
           (select timeline_id from pg_control_checkpoint()),
           current_setting('data_checksums') = 'on',
           current_setting('wal_log_hints') = 'on',
           coalesce(current_setting('summarize_wal', true), 'off') = 'on',
           (select setting::bigint from pg_settings where name = 'wal_summary_keep_time')
"""


@dataclass(frozen=True, slots=True)
class Server:
    """`bytes` are those of its databases: about what a full backup reads. `summaries_kept` is how long WAL
    summaries are kept, None for ever (and where there are none). `forbidden` is what forbids a backup."""

    system_identifier: str
    version: str
    major: int
    bytes: int
    timeline: int
    checksums: bool
    wal_log_hints: bool
    summarizes_wal: bool
    summaries_kept: timedelta | None
    forbidden: tuple[Problem, ...] = ()


def look(connection: Connection) -> Server:
    """Raises Refused with everything that forbids a base backup."""
    found = facts(connection)
    if found.forbidden:
        raise Refused(found.forbidden)
    return found


def facts(connection: Connection) -> Server:
    """What there is, also when that forbids a backup."""
    row = connection.execute(_FACTS).fetchone()
    assert row is not None  # noqa: S101
    identifier, version, major, size, tablespaces, may, user, timeline, *settings, keep_minutes = row
    problems = []
    if major < OLDEST_MAJOR:
        problems.append(
            Problem(
                "this PostgreSQL is too old",
                expected=f"{OLDEST_MAJOR} or later",
                found=version,
                next="upgrade the server",
            )
        )
    if tablespaces:
        problems.append(
            Problem(
                "tablespaces outside the data directory are not backed up",
                expected="pg_default and pg_global alone",
                found=", ".join(tablespaces),
                next="move their tables: alter table ... set tablespace pg_default; drop tablespace ...",
            )
        )
    if not may:
        problems.append(
            Problem(
                f"{user} may not take backups",
                expected="the REPLICATION attribute",
                found="a role without it",
                next=f'alter role "{user}" replication',
            )
        )
    checksums, wal_log_hints, summarizes_wal = settings
    return Server(
        identifier,
        version,
        major,
        size,
        timeline,
        checksums=checksums,
        wal_log_hints=wal_log_hints,
        summarizes_wal=summarizes_wal,
        summaries_kept=timedelta(minutes=keep_minutes) if keep_minutes else None,  # 0 keeps them for ever
        forbidden=tuple(problems),
    )
