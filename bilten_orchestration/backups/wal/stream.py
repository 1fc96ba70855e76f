"""The service that takes WAL: a supervised process, one per server.

Two threads, so that an object store that hangs holds up neither heartbeats nor the watch over the spool:

    source   everything that asks PostgreSQL: slots, pg_receivewal, heartbeats, advancing `shipped`, samples
    main     everything that asks the buckets: shipping, what the second bucket misses, the status file

A kill at any line leaves what the spool, the slots and the buckets hold, and each of them is enough for the
next start: a file in the spool is shipped again or found in the bucket; `shipped` never says more than was
read back from the bucket. A lost spool is received anew from there.

It stops taking and shipping, and says why, until it is started again, when somebody else writes the same WAL.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from bilten_orchestration.backups.opened import Opened
from bilten_orchestration.backups.postgres import server
from bilten_orchestration.backups.wal import heartbeat, positions, slots
from bilten_orchestration.backups.wal import status as statuses
from bilten_orchestration.backups.wal.archive import Archive, Piece, newest_beat
from bilten_orchestration.backups.wal.heartbeat import Beats
from bilten_orchestration.backups.wal.receiver import Receiver, Spool
from bilten_orchestration.backups.wal.ship import SecondWriter, Shipper
from bilten_orchestration.errors import BiltenError, Mismatch, Problem, StoreUnavailable
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock

LOCK = "wal:stream"
TICK_SECONDS = 1.0
SAMPLE_SECONDS = 60.0
_RECONNECT_SECONDS = 5.0
# an outage of a day, at a sample a minute and bucket
_KEPT_SAMPLES = 3000
_SAMPLES_KEPT_DAYS = 35

_SAMPLE = """
    insert into system.rpo_samples (sampled_at, bucket, reachable_until, rpo_seconds)
    values (%s, %s, %s, greatest(%s, 0)) on conflict do nothing
"""
_WRITTEN = """
    select s.write_lsn::text from pg_stat_replication s
    join pg_replication_slots r on r.active_pid = s.pid where r.slot_name = 'stream'
"""
_IDENTITY = """
    select (select system_identifier from pg_control_system())::text,
           (select setting::bigint * case unit when '8kB' then 8192 else 1 end
            from pg_settings where name = 'wal_segment_size')
"""


@dataclass(frozen=True, slots=True)
class _Source:
    """The server that WAL is of."""

    system_identifier: str
    segment_bytes: int
    major: int
    spool: Spool


@dataclass(frozen=True, slots=True)
class _Sample:
    at: datetime
    bucket: str
    reachable_until: datetime | None
    rpo_seconds: float | None


class _Shared:
    """What one thread tells the other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.source: _Source | None = None
        self.beats = Beats()
        self.written: int | None = None
        self.clock_ahead_seconds = 0.0
        self.advance_to: int | None = None
        self.samples: deque[_Sample] = deque(maxlen=_KEPT_SAMPLES)
        self.problems: dict[str, Problem] = {}
        self.halted = threading.Event()

    def tell(self, part: str, problem: Problem | None) -> None:
        """What is wrong with a part, or that nothing is."""
        with self.lock:
            if problem is None:
                self.problems.pop(part, None)
            else:
                self.problems[part] = problem

    def told(self) -> tuple[Problem, ...]:
        with self.lock:
            return tuple(self.problems.values())


def stream(settings: Settings, stop: threading.Event, *, progress: Progress = silent) -> None:
    """Take WAL until `stop` is set.

    Raises LockHeld when another one is at work in this state directory, Refused for a key file that cannot be
    read. Everything else passes or is told: see status.py.
    """
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(
            exclusive(settings.home / "wal-stream.lock", "wal stream", progress, wait_seconds=0)
        )
        first = stack.enter_context(Opened.of(settings))
        copy = stack.enter_context(Opened.of(settings, bucket="copy"))
        shared = _Shared()
        source = _SourceThread(settings, shared, stop, progress)
        source.start()
        try:
            _Ships(settings, shared, (first, copy), stop, progress).run()
        finally:
            stop.set()
            source.join()


class _SourceThread(threading.Thread):
    """Everything that asks PostgreSQL."""

    def __init__(
        self, settings: Settings, shared: _Shared, stop: threading.Event, progress: Progress
    ) -> None:
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

    def _identify(self, connection: postgres.Connection) -> _Source:
        found = server.look(connection)
        row = connection.execute(_IDENTITY).fetchone()
        assert row is not None  # noqa: S101
        directory = self._settings.backups.wal_spool or self._settings.home / "wal-spool"
        return _Source(row[0], row[1], found.major, Spool(directory / row[0]))

    def _receive(self, connection: postgres.Connection, source: _Source, receiver: Receiver) -> None:
        def prepare() -> None:
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
        self._shared.written = positions.lsn(row[0]) if row is not None and row[0] is not None else None

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
        self._shared.clock_ahead_seconds = (beat.at - datetime.now(UTC)).total_seconds()
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


class _Ships:
    """Everything that asks the buckets."""

    def __init__(
        self,
        settings: Settings,
        shared: _Shared,
        opened: tuple[Opened, Opened],
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._settings, self._shared, self._opened = settings, shared, opened
        self._stop, self._progress = stop, progress
        self._source: _Source | None = None
        self._archives: tuple[Archive, ...] = ()
        self._shipper: Shipper | None = None
        self._until: dict[str, datetime | None] = {}
        self._shipped: int | None = None
        self._timeline: int | None = None
        self._shipped_at: datetime | None = None
        self._behind = True  # what the second bucket misses from before is not known
        self._last_part = self._last_sample = self._last_copy = 0.0

    def run(self) -> None:
        while not self._stop.is_set():
            self._turn()
            self._stop.wait(TICK_SECONDS)
        self._turn(last=True)

    def _turn(self, *, last: bool = False) -> None:
        if self._shared.source is not None and not self._shared.halted.is_set():
            if self._shared.source != self._source:
                self._begin(self._shared.source)
            self._ship(part=last)
            self._catch_up()
        self._sample()
        self._write("stopped" if last else None)

    def _begin(self, source: _Source) -> None:
        self._source = source
        self._archives = tuple(
            Archive(opened.repository, opened.cipher, source.system_identifier, source.segment_bytes)
            for opened in self._opened
        )
        self._shipper = Shipper(self._archives, self._shared.beats)
        self._until = {}
        self._behind = True

    def _ship(self, *, part: bool) -> None:
        assert self._source is not None  # noqa: S101
        assert self._shipper is not None  # noqa: S101
        now = time.monotonic()
        part = part or now - self._last_part >= self._settings.backups.wal_ship_seconds
        try:
            done = self._shipper.ship(
                self._source.spool.generations(), partial=part, written=self._shared.written
            )
        except SecondWriter as error:
            self._shared.halted.set()
            self._shared.tell("second writer", error.problems[0])
            self._progress(str(error))
            return
        if part:
            self._last_part = now
        if done.end is not None:
            self._shipped, self._shipped_at = done.end, datetime.now(UTC)
            self._timeline = max(piece.timeline for piece in done.pieces)
            self._shared.advance_to = done.end
        self._reached(self._archives[0], done.pieces)
        if done.behind is None:
            self._reached(self._archives[1], done.pieces)
        else:
            self._behind = True
            self._shared.tell("copy", _copy_behind(done.behind))
        self._shared.tell("ship", None if done.failed is None else done.failed.problems[0])

    def _reached(self, archive: Archive, pieces: list[Piece]) -> None:
        """The second bucket's time is known once it has been compared with the first."""
        bucket = archive.repository.bucket
        newest = newest_beat(pieces)
        if newest is not None and not (archive is self._archives[1] and self._behind):
            self._until[bucket] = max(self._until.get(bucket) or newest, newest)

    def _catch_up(self) -> None:
        """Bring to the second bucket what it misses, and learn until when both reach."""
        now = time.monotonic()
        if not self._behind or now - self._last_copy < SAMPLE_SECONDS / 4:
            return
        self._last_copy = now
        first, copy = self._archives
        try:
            here = list(first.pieces())
        except BiltenError as error:
            self._shared.tell("ship", error.problems[0])
            return
        self._until.setdefault(first.repository.bucket, newest_beat(here))
        try:
            there = {piece.name for piece in copy.pieces()}
            for piece in here:
                if piece.name not in there:
                    self._copy(piece, first, copy)
                if self._stop.is_set():
                    return
            self._behind = False
            self._until[copy.repository.bucket] = newest_beat(here)
            self._shared.tell("copy", None)
        except BiltenError as error:
            self._shared.tell("copy", _copy_behind(error))

    def _copy(self, piece: Piece, first: Archive, copy: Archive) -> None:
        try:
            body = first.repository.read_small(piece.name)
        except Mismatch:
            return  # a part of a segment, of which more is stored by now
        copy.repository.write_small(piece.name, body)
        if copy.repository.read_small(piece.name) != body:
            raise StoreUnavailable(
                f"{copy.repository.bucket} does not give back what was written to {piece.name}",
                expected=f"the same {len(body)} bytes",
                found="others",
                next="look at that store's log",
            )

    def _buckets(self) -> tuple[statuses.BucketStatus, ...]:
        now = datetime.now(UTC).timestamp() + self._shared.clock_ahead_seconds
        return tuple(
            statuses.BucketStatus(
                bucket, until, None if until is None else round(max(0.0, now - until.timestamp()), 3)
            )
            for bucket in (opened.repository.bucket for opened in self._opened)
            for until in (self._until.get(bucket),)
        )

    def _sample(self) -> None:
        now = time.monotonic()
        if self._source is None or (self._last_sample and now - self._last_sample < SAMPLE_SECONDS):
            return
        self._last_sample = now
        at = datetime.now(UTC)
        for each in self._buckets():
            self._shared.samples.append(_Sample(at, each.bucket, each.reachable_until, each.rpo_seconds))

    def _write(self, state: statuses.State | None) -> None:
        shared, source = self._shared, self._source
        problems = shared.told()
        if state is None:
            if shared.halted.is_set():
                state = "halted"
            elif source is None:
                state = "waiting" if problems else "starting"
            else:
                state = "waiting" if {"source", "receiver"} & set(shared.problems) else "streaming"
        statuses.write(
            statuses.place(self._settings),
            statuses.WalStatus(
                at=datetime.now(UTC),
                pid=os.getpid(),
                state=state,
                system_identifier=None if source is None else source.system_identifier,
                timeline=self._timeline,
                shipped=None if self._shipped is None else positions.text(self._shipped),
                shipped_at=self._shipped_at,
                spool_bytes=0 if source is None else source.spool.size_bytes(),
                spool_limit_bytes=self._settings.backups.wal_spool_bytes,
                buckets=self._buckets(),
                problems=problems,
            ),
        )


def _removed() -> Problem:
    return Problem(
        "the server removed WAL that was not taken yet: no moment in that gap can be restored",
        expected="WAL kept by the slot `stream`",
        found="a server that has none of it, after a promotion or a lost slot",
        next="bilten backup create postgres: from its end on every moment can be restored again;"
        " bilten wal audit shows the gap",
    )


def _copy_behind(error: BiltenError) -> Problem:
    problem = error.problems[0]
    return Problem(
        f"the second bucket is behind: {problem.what}",
        problem.expected,
        problem.found,
        "nothing is lost while the first bucket is whole; it is caught up by itself",
    )
