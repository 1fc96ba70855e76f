"""WAL, checkpoints, replication and its slots, for postgres.py.

Slots of a session (those of drills, whose names change with each) are counted and not named.
"""

from __future__ import annotations

from typing import Final

from bilten_orchestration.observability.series import Collected, counter, gauge
from bilten_orchestration.stores.postgres import Connection

_P = "bilten_postgres_"
_CHECKPOINTER_SINCE: Final = 170000
_MOST_RECEIVERS: Final = 20

WAL_BYTES = counter(f"{_P}wal_written_bytes_total", "WAL generated")
WAL_RECORDS = counter(f"{_P}wal_records_total", "WAL records generated")
WAL_FULL_PAGES = counter(f"{_P}wal_full_page_images_total", "Full pages in WAL")
WAL_BUFFERS_FULL = counter(f"{_P}wal_buffers_full_total", "Times that full buffers made WAL be written")
WAL_SIZE = gauge(f"{_P}wal_size_bytes", "Size of pg_wal")
CHECKPOINTS = counter(f"{_P}checkpoints_total", "Checkpoints by reason", "reason")
CHECKPOINT_WRITE = counter(f"{_P}checkpoint_write_seconds_total", "Time checkpoints wrote")
CHECKPOINT_SYNC = counter(f"{_P}checkpoint_sync_seconds_total", "Time checkpoints synced")
CHECKPOINT_BUFFERS = counter(f"{_P}checkpoint_buffers_written_total", "Buffers that checkpoints wrote")
SENDERS = gauge(f"{_P}replication_senders", "WAL senders by what receives", "application", "state")
SENDERS_LIMIT = gauge(f"{_P}replication_senders_limit", "WAL senders that may be")
SENDER_LAG = gauge(
    f"{_P}replication_lag_bytes", "WAL that a receiver has not flushed, of the slowest one", "application"
)
SLOTS = gauge(f"{_P}replication_slots", "Replication slots, temporary ones too", "active")
SLOTS_LIMIT = gauge(f"{_P}replication_slots_limit", "Replication slots that may be")
SLOT_KEPT = gauge(f"{_P}replication_slot_retained_bytes", "WAL that a lasting slot keeps", "slot")
SLOT_ROOM = gauge(
    f"{_P}replication_slot_safe_bytes", "WAL that may still be written before a slot is lost", "slot"
)
SLOT_LOST = gauge(f"{_P}replication_slot_lost", "Whether a slot was given up, or is about to be", "slot")
SLOT_ACTIVE = gauge(f"{_P}replication_slot_active", "Whether somebody uses the slot", "slot")
SLOT_LIMIT = gauge(f"{_P}replication_slot_retained_limit_bytes", "WAL that a slot may keep")

_WAL = """
    select wal_bytes, wal_records, wal_fpi, wal_buffers_full, (select sum(size) from pg_ls_waldir()),
           current_setting('max_wal_senders')::int, current_setting('max_replication_slots')::int,
           (select case when setting <> '-1' then pg_size_bytes(setting || unit) end from pg_settings
            where name = 'max_slot_wal_keep_size'),
           current_setting('server_version_num')::int
    from pg_stat_wal
"""

# times in milliseconds there
_CHECKPOINTS = """
    select num_timed, num_requested, write_time / 1000, sync_time / 1000, buffers_written
    from pg_stat_checkpointer
"""
_CHECKPOINTS_BEFORE_17 = """
    select checkpoints_timed, checkpoints_req, checkpoint_write_time / 1000, checkpoint_sync_time / 1000,
           buffers_checkpoint
    from pg_stat_bgwriter
"""

# on a standby WAL ends where it was replayed to
_END = "case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end"

_SENDERS = f"""
    select application_name, state, count(*), max(pg_wal_lsn_diff({_END}, flush_lsn))::float8
    from pg_stat_replication group by 1, 2 order by 4 desc nulls last, 1, 2 limit {_MOST_RECEIVERS}
"""

_SLOTS = f"""
    select slot_name, temporary, active, coalesce(wal_status in ('lost', 'unreserved'), false),
           pg_wal_lsn_diff({_END}, restart_lsn)::float8, safe_wal_size
    from pg_replication_slots order by slot_name
"""


def collect(connection: Connection, found: Collected) -> None:
    """Adds what the server says now. Raises psycopg's errors."""
    row = connection.execute(_WAL).fetchone()
    assert row is not None  # noqa: S101 (a view of one row)
    *values, version = row
    families = (
        WAL_BYTES, WAL_RECORDS, WAL_FULL_PAGES, WAL_BUFFERS_FULL, WAL_SIZE, SENDERS_LIMIT, SLOTS_LIMIT,
        SLOT_LIMIT,
    )  # fmt: skip
    for family, value in zip(families, values, strict=True):
        found.add(family, value)
    row = connection.execute(
        _CHECKPOINTS if version >= _CHECKPOINTER_SINCE else _CHECKPOINTS_BEFORE_17
    ).fetchone()
    assert row is not None  # noqa: S101 (a view of one row)
    timed, requested, *rest = row
    found.add(CHECKPOINTS, timed, "timed")
    found.add(CHECKPOINTS, requested, "requested")
    for family, value in zip((CHECKPOINT_WRITE, CHECKPOINT_SYNC, CHECKPOINT_BUFFERS), rest, strict=True):
        found.add(family, value)
    _replication(connection, found)


def _replication(connection: Connection, found: Collected) -> None:
    slowest: dict[str, float] = {}
    for application, state, count, behind in connection.execute(_SENDERS):
        found.add(SENDERS, count, application, state or "unknown")
        if behind is not None:
            slowest[application] = max(behind, slowest.get(application, 0.0))
    for application, behind in slowest.items():
        found.add(SENDER_LAG, behind, application)
    slots = connection.execute(_SLOTS).fetchall()
    for wanted in (True, False):
        found.add(SLOTS, sum(active is wanted for _, _, active, *_ in slots), str(wanted).lower())
    for slot, temporary, active, lost, kept, safe in slots:
        if not temporary:
            found.add(SLOT_ACTIVE, active, slot)
            found.add(SLOT_LOST, lost, slot)
            found.add(SLOT_KEPT, kept, slot)
            found.add(SLOT_ROOM, safe, slot)
