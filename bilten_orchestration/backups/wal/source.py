"""The thread of the stream that asks PostgreSQL: slots, pg_receivewal, heartbeats, `shipped`, samples."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from bilten_orchestration.backups.postgres import server
from bilten_orchestration.backups.wal import heartbeat, positions, slots
from bilten_orchestration.backups.wal.receiver import Receiver, Spool
from bilten_orchestration.backups.wal.shared import TICK_SECONDS, Shared, Source, Written
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock

LOCK = "wal:stream"
_RECONNECT_SECONDS = 5.0
_SAMPLES_KEPT_DAYS = 35
_CLOCKS_APART_SECONDS = 60.0

_SAMPLE = """
    insert into system.rpo_samples (sampled_at, bucket, reachable_until, rpo_seconds)
    values (%s, %s, %s, greatest(%s, 0)) on conflict do nothing
"""
_WRITTEN = """
    select s.write_lsn::text, s.reply_time from pg_stat_replication s
    join pg_replication_slots r on r.active_pid = s.pid where r.slot_name = 'stream'
        and s.write_lsn is not null and s.reply_time is not null
"""
_IDENTITY = """
    select (select system_identifier from pg_control_system())::text,
           (select setting::bigint * case unit when '8kB' then 8192 else 1 end
            from pg_settings where name = 'wal_segment_size')
"""


class SourceThread(threading.Thread):
    """Everything that asks PostgreSQL."""

    def __init__(self, settings: Settings, shared: Shared, stop: threading.Event, progress: Progress) -> None:
        super().__init__(name="wal-source")
        self._settings, self._shared, self._stop_asked = settings, shared, stop
        self._progress = progress
        self._receiver: Receiver | None = None
        self._last_beat = 0.0
        self._pruned = 0.0

    def run(self) -> None:
        """Connect, work, and connect again when that breaks, until the end."""
        try:
            while not self._stop_asked.is_set():
                try:
                    with translated("the stream of WAL"):
                        self._connected()
                except BiltenError as error:
                    self._shared.tell("source", error.problems[0])
                self._stop_asked.wait(_RECONNECT_SECONDS)
        except BaseException:
            # a defect here must not leave a service that looks alive and takes nothing
            self._stop_asked.set()
            raise
        finally:
            if self._receiver is not None:
                self._receiver.stop()

    def _connected(self) -> None:
        shared = self._shared
        with (
            postgres.connect(
                self._settings.postgres, application_name="bilten wal control", autocommit=True
            ) as connection,
            advisory_lock(connection, LOCK),
        ):
            source = self._identify(connection)
            if self._receiver is None or shared.source != source:
                if self._receiver is not None:
                    self._receiver.stop()
                self._receiver = Receiver(
                    self._settings.postgres,
                    source.spool,
                    self._settings.backups.wal_spool_bytes,
                    source.major,
                )
                shared.source = source
            shared.tell("source", None)
            while not self._stop_asked.is_set():
                if shared.halted.is_set():
                    self._receiver.stop()
                else:
                    self._receive(connection, source, self._receiver)
                self._beat(connection)
                self._advance(connection)
                self._record(connection)
                self._stop_asked.wait(TICK_SECONDS)

    def _identify(self, connection: postgres.Connection) -> Source:
        found = server.look(connection)
        row = connection.execute(_IDENTITY).fetchone()
        assert row is not None  # noqa: S101
        directory = self._settings.backups.wal_spool or self._settings.home / "wal-spool"
        return Source(row[0], row[1], found.major, Spool(directory / row[0]))

    def _receive(self, connection: postgres.Connection, source: Source, receiver: Receiver) -> None:
        def prepare() -> None:
            slots.release(connection)
            if receiver.gap:
                receiver.gap = False
                slots.begin_anew(connection)
                source.spool.next()
                self._lost(_removed())
                return
            source.spool.mend(source.segment_bytes)
            for problem in slots.ensure(connection, spool_empty=source.spool.empty()):
                self._lost(problem)

        receiver.tick(prepare)
        self._shared.tell("receiver", receiver.problem)
        row = connection.execute(_WRITTEN).fetchone()
        self._shared.written = None if row is None else Written(positions.lsn(row[0]), row[1])

    def _lost(self, problem: Problem) -> None:
        """It stays told until the service is started again; the audit tells it for as long as it matters."""
        self._progress(str(problem))
        self._shared.tell("gap", problem)

    def _beat(self, connection: postgres.Connection) -> None:
        now = time.monotonic()
        if now - self._last_beat < self._settings.backups.heartbeat_seconds:
            return
        beat = heartbeat.beat(connection)
        self._last_beat = now
        ahead = (beat.at - datetime.now(UTC)).total_seconds()
        self._shared.clock_ahead_seconds = ahead
        self._shared.tell("clock", _clocks_apart(ahead) if abs(ahead) > _CLOCKS_APART_SECONDS else None)
        self._shared.beats.add(beat)

    def _advance(self, connection: postgres.Connection) -> None:
        position, self._shared.advance_to = self._shared.advance_to, None
        if position is not None:
            slots.advance(connection, position)

    def _record(self, connection: postgres.Connection) -> None:
        samples = self._shared.samples
        while samples:
            sample = samples[0]
            connection.execute(
                _SAMPLE, (sample.at, sample.bucket, sample.reachable_until, sample.rpo_seconds)
            )
            samples.popleft()
        if time.monotonic() - self._pruned > 86_400 or not self._pruned:
            self._pruned = time.monotonic()
            connection.execute(
                "delete from system.rpo_samples where sampled_at < now() - make_interval(days => %s)",
                (_SAMPLES_KEPT_DAYS,),
            )


def _clocks_apart(ahead_seconds: float) -> Problem:
    return Problem(
        "the clocks of PostgreSQL and of this machine are apart: moments in WAL are not what they seem",
        expected=f"at most {_CLOCKS_APART_SECONDS:.0f} s",
        found=f"PostgreSQL {abs(ahead_seconds):,.0f} s {'ahead' if ahead_seconds > 0 else 'behind'}",
        next="set them right (NTP); after PostgreSQL's was set back: bilten backup create postgres --kind"
        " full, from whose end on moments count again",
    )


def _removed() -> Problem:
    return Problem(
        "the server removed WAL that was not taken yet: no moment in that gap can be restored",
        expected="WAL kept by the slot `stream`",
        found="a server that has none of it, after a promotion or a lost slot",
        next="bilten backup create postgres: from its end on every moment can be restored again;"
        " bilten wal audit shows the gap",
    )
