"""A commit every few seconds, also when nobody else writes.

WAL tells the time by commits alone. Without one behind a moment a restore cannot know that it has reached it
("recovery ended before configured recovery target was reached"): what can be restored ends at the newest
heartbeat that is in the repository.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.stores.postgres import Connection

SOURCE = "wal"
_KEPT = 10_000

_BEAT = """
    insert into system.heartbeats (source, beat, beat_at) values (%s, 1, clock_timestamp())
    on conflict (source) do update set beat = heartbeats.beat + 1, beat_at = clock_timestamp()
    returning beat_at
"""


@dataclass(frozen=True, slots=True)
class Beat:
    """Committed at `at` (the server's clock; the commit is a little later), below the position `end`."""

    at: datetime
    end: int


def beat(connection: Connection) -> Beat:
    """Commit one. The connection is in autocommit."""
    with connection.transaction():
        # else the server would answer before it is in WAL, and WAL that is not flushed is not streamed
        connection.execute("set local synchronous_commit = on")
        row = connection.execute(_BEAT, (SOURCE,)).fetchone()
    assert row is not None  # noqa: S101
    flushed = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone()
    assert flushed is not None  # noqa: S101
    return Beat(row[0], positions.lsn(flushed[0]))


class Beats:
    """The last of them, to tell which are in a piece of WAL. One thread adds, others ask."""

    def __init__(self) -> None:
        self._beats: deque[Beat] = deque(maxlen=_KEPT)

    def add(self, new: Beat) -> None:
        # a server that took over may be behind the one before
        if self._beats and new.end < self._beats[-1].end:
            self._beats.clear()
        self._beats.append(new)

    def within(self, end: int) -> datetime | None:
        """The newest that lies wholly below the position `end`; None when that is not known."""
        for one in reversed(tuple(self._beats)):
            if one.end <= end:
                return one.at
        return None
