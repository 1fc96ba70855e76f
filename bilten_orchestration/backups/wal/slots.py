"""The two physical slots that WAL is kept for.

    stream    pg_receivewal's: follows what lies in the spool, and so says nothing of the repository
    shipped   advanced by us alone, after an upload was read back: a lost spool begins anew from a copy of it

Both are bounded by max_slot_wal_keep_size: PostgreSQL gives a slot up before its disk fills, and that is told
as a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.errors import Problem, StoreUnavailable
from bilten_orchestration.stores.postgres import Connection

STREAM, SHIPPED = "stream", "shipped"

_RELEASE_MILLISECONDS = 5_000

_READ = """
    select slot_name, restart_lsn::text, active_pid, wal_status,
           (pg_current_wal_lsn() - restart_lsn)::bigint
    from pg_replication_slots where slot_name in (%s, %s) and slot_type = 'physical'
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """`restart` is from where on WAL is kept, None when none is; `kept_bytes` how much that is."""

    name: str
    restart: int | None
    active_pid: int | None
    wal_status: str | None
    kept_bytes: int | None

    @property
    def lost(self) -> bool:
        return self.wal_status == "lost"


def read(connection: Connection) -> Mapping[str, Slot]:
    rows = connection.execute(_READ, (STREAM, SHIPPED)).fetchall()
    return {
        name: Slot(name, None if restart is None else positions.lsn(restart), pid, status, kept)
        for name, restart, pid, status, kept in rows
    }


def ensure(connection: Connection, *, spool_empty: bool) -> tuple[Problem, ...]:
    """Both slots, such that nothing between the repository and the spool is missing. What was lost is told.

    `stream` must not be in use. With an empty spool it begins where `shipped` is.
    """
    found = dict(read(connection))
    told: list[Problem] = []
    for slot in [slot for slot in found.values() if slot.lost]:
        # what the spool holds from `stream` on makes a lost `shipped` harmless
        harmless = slot.name == SHIPPED and not spool_empty and STREAM in found and not found[STREAM].lost
        told.append(_lost(slot, harmless=harmless))
        connection.execute("select pg_drop_replication_slot(%s)", (slot.name,))
        del found[slot.name]
    if SHIPPED not in found:
        if STREAM in found and not spool_empty:
            _copy(connection, STREAM, SHIPPED)
        else:
            connection.execute("select pg_create_physical_replication_slot(%s, true)", (SHIPPED,))
        found = dict(read(connection))
    behind = found[SHIPPED].restart or 0
    stream = found.get(STREAM)
    if stream is not None and (stream.restart is None or (spool_empty and stream.restart > behind)):
        connection.execute("select pg_drop_replication_slot(%s)", (STREAM,))
        stream = None
    if stream is None:
        _copy(connection, SHIPPED, STREAM)
    return tuple(told)


def release(connection: Connection) -> None:
    """End whoever holds `stream`: for the holder of the stream's lock, whose own pg_receivewal has ended.

    So it is one that a killed service left behind, here or on a machine that is gone: its connection would be
    noticed as dead after wal_sender_timeout only. Raises StoreUnavailable when it does not go.
    """
    held = connection.execute(
        "select active_pid, pg_terminate_backend(active_pid, %s) from pg_replication_slots"
        " where slot_name = %s and active_pid is not null",
        (_RELEASE_MILLISECONDS, STREAM),
    ).fetchone()
    if held is not None and not held[1] and read(connection)[STREAM].active_pid is not None:
        raise StoreUnavailable(
            f"the slot {STREAM} is held by another process of the server",
            expected=f"that it ends within {_RELEASE_MILLISECONDS / 1000:g} s of being told to",
            found=f"backend {held[0]} still there",
            next="see who it is: select * from pg_stat_replication",
        )


def begin_anew(connection: Connection) -> None:
    """Both slots at the server's present position: after WAL between them and now was removed."""
    for name in read(connection):
        connection.execute("select pg_drop_replication_slot(%s)", (name,))
    connection.execute("select pg_create_physical_replication_slot(%s, true)", (SHIPPED,))
    _copy(connection, SHIPPED, STREAM)


def advance(connection: Connection, position: int) -> None:
    """`shipped` to what is in the repository; never back, never beyond what the server has."""
    connection.execute(
        "select pg_replication_slot_advance(slot_name, least(%s::pg_lsn, pg_current_wal_flush_lsn()))"
        " from pg_replication_slots where slot_name = %s and restart_lsn < %s::pg_lsn",
        (positions.text(position), SHIPPED, positions.text(position)),
    )


def _copy(connection: Connection, source: str, target: str) -> None:
    connection.execute("select pg_copy_physical_replication_slot(%s, %s)", (source, target))


def _lost(slot: Slot, *, harmless: bool) -> Problem:
    if harmless:
        return Problem(
            f"the slot {slot.name} was lost; the spool still holds what it was for",
            expected="WAL kept since the last upload",
            found="more than max_slot_wal_keep_size since then",
            next="see why WAL is not shipped: bilten wal status",
        )
    return Problem(
        f"the slot {slot.name} was lost: WAL is missing, and no moment in that gap can be restored",
        expected="WAL kept since the last upload",
        found="more than max_slot_wal_keep_size since then",
        next="bilten backup create postgres: from its end on every moment can be restored again;"
        " bilten wal audit shows the gap",
    )
