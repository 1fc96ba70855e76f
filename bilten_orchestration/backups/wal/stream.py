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
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal import status as statuses
from bilten_orchestration.backups.wal.archive import Archive, Piece, newest_beat
from bilten_orchestration.backups.wal.shared import TICK_SECONDS, Sample, Shared, Source
from bilten_orchestration.backups.wal.ship import SecondWriter, Shipper
from bilten_orchestration.backups.wal.source import SourceThread
from bilten_orchestration.errors import BiltenError, Mismatch, Problem, StoreUnavailable
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

SAMPLE_SECONDS = 60.0
_PATIENCE_SECONDS = 1.0
# of a server's clock and ours
_CLOCKS_APART = timedelta(minutes=1)


def stream(settings: Settings, stop: threading.Event, *, progress: Progress = silent) -> None:
    """Take WAL until `stop` is set.

    Raises LockHeld when another one is at work in this state directory, Refused for a key file that cannot be
    read. Everything else passes or is told: see status.py. Nothing in it counts attempts: whatever fails is
    tried again with the next turn, a second later, for as long as the service runs.
    """
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(
            exclusive(settings.home / "wal-stream.lock", "wal stream", progress, wait_seconds=0)
        )
        # what fails longer is told at once, and the next turn tries again
        first = stack.enter_context(Opened.of(settings, patience_seconds=_PATIENCE_SECONDS))
        copy = stack.enter_context(Opened.of(settings, bucket="copy", patience_seconds=_PATIENCE_SECONDS))
        shared = Shared()
        source = SourceThread(settings, shared, stop, progress)
        source.start()
        try:
            _Ships(settings, shared, (first, copy), stop, progress).run()
        finally:
            stop.set()
            source.join()


class _Ships:
    """Everything that asks the buckets."""

    def __init__(
        self,
        settings: Settings,
        shared: Shared,
        opened: tuple[Opened, Opened],
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._settings, self._shared, self._opened = settings, shared, opened
        self._stop, self._progress = stop, progress
        self._source: Source | None = None
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

    def _begin(self, source: Source) -> None:
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
            before = self._until.get(bucket)
            # what was shipped anew is no news; a moment that has not come yet is of a clock that was set back
            ahead = before is None or before > self._server_now() + _CLOCKS_APART
            self._until[bucket] = newest if before is None or ahead else max(before, newest)

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
        now = self._server_now()
        return tuple(
            statuses.BucketStatus(
                bucket, until, None if until is None else round(max(0.0, (now - until).total_seconds()), 3)
            )
            for bucket in (opened.repository.bucket for opened in self._opened)
            for until in (self._until.get(bucket),)
        )

    def _server_now(self) -> datetime:
        """By the clock that heartbeats are of."""
        return datetime.now(UTC) + timedelta(seconds=self._shared.clock_ahead_seconds)

    def _sample(self) -> None:
        now = time.monotonic()
        if self._source is None or (self._last_sample and now - self._last_sample < SAMPLE_SECONDS):
            return
        self._last_sample = now
        at = datetime.now(UTC)
        for each in self._buckets():
            self._shared.samples.append(Sample(at, each.bucket, each.reachable_until, each.rpo_seconds))

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


def _copy_behind(error: BiltenError) -> Problem:
    problem = error.problems[0]
    return Problem(
        f"the second bucket is behind: {problem.what}",
        problem.expected,
        problem.found,
        "nothing is lost while the first bucket is whole; it is caught up by itself",
    )
