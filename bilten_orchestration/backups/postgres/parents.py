"""What an incremental backup is taken on: always the newest full one, so that a restore combines two.

Where that cannot be, the reason is told, and a full backup is taken in its place:

    1. there is no full backup of this server that is not expired, and not dated ahead of now: of a clock that
       was wrong nobody knows how old it is, and whether WAL summaries reach back to it
    2. the server is older than 17
    3. it does not summarize WAL (summarize_wal)
    4. it has neither data checksums nor wal_log_hints: changes of hint bits are not in WAL
    5. summaries are kept for a shorter time than the parent is old (wal_summary_keep_time)
    6. the parent is of another major version
    7. the parent is of another timeline: the server was promoted since
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from bilten_orchestration.backups.postgres.server import Server
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest

INCREMENTAL_MAJOR = 17
#: Clocks of machines that take backups may differ by as much.
_APART = timedelta(minutes=15)


def choose(backups: Iterable[Backup], server: Server, now: datetime) -> Manifest | str:
    """The parent, or the reason why there is none. `backups` in the order of their start."""
    full = [
        backup.manifest
        for backup in backups
        if backup.manifest.store == "postgres"
        and backup.manifest.kind == "full"
        and backup.manifest.source == server.system_identifier
        and backup.state != "expired"
        and backup.manifest.started_at <= now + _APART
    ]
    if not full:
        return "the repository has no full backup of this server"
    parent = full[-1]
    if server.major < INCREMENTAL_MAJOR:
        return f"PostgreSQL {server.major} has none; they came with {INCREMENTAL_MAJOR}"
    if not server.summarizes_wal:
        return "summarize_wal is off; alter system set summarize_wal = on; select pg_reload_conf()"
    if not (server.checksums or server.wal_log_hints):
        return "neither data checksums nor wal_log_hints are on; pg_checksums --enable on the stopped server"
    age = now - parent.started_at
    if server.summaries_kept is not None and server.summaries_kept < age:
        return (
            f"{parent.id} is {age} old, and WAL summaries are kept for {server.summaries_kept}"
            " (wal_summary_keep_time)"
        )
    if int(parent.versions["postgres"].split(".")[0]) != server.major:
        return f"{parent.id} is of PostgreSQL {parent.versions['postgres']}"
    if parent.wal is None or parent.wal.timeline != server.timeline:
        of = "an unknown timeline" if parent.wal is None else f"timeline {parent.wal.timeline}"
        return f"{parent.id} is of {of}, and the server is on {server.timeline}: it was promoted since"
    return parent
