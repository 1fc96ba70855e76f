"""What PostgreSQL must have for its backups, WAL and point in time recovery."""

from __future__ import annotations

from bilten_orchestration.backups.postgres import databases, parents, programs, server
from bilten_orchestration.backups.preflight import Requirement
from bilten_orchestration.errors import Refused
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

_NAME = "bilten preflight"
_LEVELS = ("replica", "logical")
_SETTINGS = """
    select current_setting('wal_level'),
           current_setting('max_slot_wal_keep_size'),
           current_setting('max_replication_slots')::int - (select count(*) from pg_replication_slots)
             + (select count(*) from pg_replication_slots where slot_name in ('stream', 'shipped')),
           current_setting('max_wal_senders')::int - (select count(*) from pg_stat_replication),
           (select rolsuper or pg_has_role(oid, 'pg_monitor', 'usage') from pg_roles
            where rolname = current_user),
           current_user::text
"""
# `stream`, `shipped`, and the temporary one of a backup
_SLOTS = 3
# pg_receivewal and pg_basebackup
_SENDERS = 2


def requirements(settings: Settings) -> tuple[Requirement, ...]:
    """In the order in which they are to be mended."""
    with (
        translated("the preflight"),
        postgres.connect(settings.postgres, application_name=_NAME, autocommit=True) as connection,
    ):
        found = server.facts(connection)
        row = connection.execute(_SETTINGS).fetchone()
    assert row is not None  # noqa: S101
    level, keep_size, slots, senders, monitors, user = row
    return (
        *(
            Requirement(each.what, met=False, expected=each.expected, found=each.found, next=each.next)
            for each in found.forbidden
        ),
        _replication(settings),
        _programs(settings, found.major),
        Requirement(
            "wal_level",
            level in _LEVELS,
            " or ".join(_LEVELS),
            level,
            "alter system set wal_level = replica, and restart the server",
            "base backups and WAL",
        ),
        Requirement(
            "replication slots that are free",
            slots >= _SLOTS,
            f"{_SLOTS} or more",
            str(slots),
            "alter system set max_replication_slots to a larger number, and restart the server",
            "`bilten wal stream` and the slot of a backup",
        ),
        Requirement(
            "WAL senders that are free",
            senders >= _SENDERS,
            f"{_SENDERS} or more",
            str(senders),
            "alter system set max_wal_senders to a larger number, and restart the server",
            "pg_receivewal and pg_basebackup",
        ),
        Requirement(
            "max_slot_wal_keep_size",
            keep_size not in ("-1", "0"),
            "a bound, 4GB or what the disk can spare",
            keep_size,
            "alter system set max_slot_wal_keep_size = '4GB'; select pg_reload_conf()",
            "a disk that does not fill when WAL cannot be shipped",
        ),
        Requirement(
            "what replication does can be seen",
            bool(monitors),
            f"{user} in pg_monitor",
            "it is" if monitors else "it is not",
            f'grant pg_monitor to "{user}"',
            "WAL that is shipped before a segment is full",
        ),
        *_summaries(found),
        Requirement(
            "data checksums or wal_log_hints",
            found.checksums or found.wal_log_hints,
            "one of them on",
            "on" if found.checksums or found.wal_log_hints else "both off",
            "pg_checksums --enable on the stopped server",
            "incremental backups, and pages that are checked",
        ),
        *databases.requirements(settings.postgres),
    )


def _summaries(found: server.Server) -> tuple[Requirement, ...]:
    if found.major < parents.INCREMENTAL_MAJOR:
        # it has neither of the settings: no statement helps
        return (
            Requirement(
                "WAL summaries",
                False,
                f"PostgreSQL {parents.INCREMENTAL_MAJOR} or later",
                f"PostgreSQL {found.major} has none",
                "nothing, unless you upgrade: a full backup is taken where an incremental is due, and WAL and"
                " point in time recovery need none. Stop the schedule postgres_incremental_backup where six"
                " full ones a day are too many",
                "incremental backups",
            ),
        )
    return (
        Requirement(
            "summarize_wal",
            found.summarizes_wal,
            "on",
            "on" if found.summarizes_wal else "off",
            "alter system set summarize_wal = on; select pg_reload_conf()",
            "incremental backups",
        ),
        Requirement(
            "wal_summary_keep_time",
            found.summaries_kept is None or found.summaries_kept.days >= 2,
            "2 days or more",
            "for ever" if found.summaries_kept is None else str(found.summaries_kept),
            "alter system set wal_summary_keep_time = '10d'; select pg_reload_conf()",
            "incremental backups",
        ),
    )


def _replication(settings: Settings) -> Requirement:
    import psycopg

    said = {
        **postgres.parameters(settings.postgres, application_name=_NAME),
        "replication": "true",
    }
    try:
        psycopg.connect(**said, autocommit=True).close()
        found, met = "accepted", True
    except psycopg.OperationalError as error:
        found, met = str(error).strip().rpartition(" failed: ")[2].splitlines()[0], False
    return Requirement(
        "replication connections",
        met,
        "accepted",
        found,
        f"a line in pg_hba.conf: host replication {said['user']} <this host> scram-sha-256; then reload",
        "everything",
    )


def _programs(settings: Settings, major: int) -> Requirement:
    try:
        programs.directory(settings.postgres, major)
        found, met, mend = f"PostgreSQL {major}", True, ""
    except Refused as error:
        problem = error.problems[0]
        found, met, mend = f"{problem.what}: {problem.found}", False, problem.next
    return Requirement(
        "PostgreSQL's own programs here", met, f"those of PostgreSQL {major}", found, mend, "everything"
    )
