"""Waiting until the WAL of a point or a moment is in a repository, as it comes by itself: no segment is asked
for."""

from __future__ import annotations

import time
from datetime import datetime

from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.wal import positions, status
from bilten_orchestration.backups.wal.archive import Archive, Piece, best
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.drills.postgres.point import Point
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

_POLL_SECONDS = 0.5
_TOLD_SECONDS = 10
_FIRST_TOLD_SECONDS = 2


def wait(settings: Settings, point: Point, progress: Progress, bucket: Bucket = "first") -> float:
    """Seconds until a heartbeat that was committed behind the point was there: then a restore finds a record
    behind it, at which it stops.

    Raises Mismatch after `drills.wal_wait_seconds`, with what the stream of WAL says.
    """
    began = time.monotonic()
    told = began - _TOLD_SECONDS + _FIRST_TOLD_SECONDS
    limit = settings.drills.wal_wait_seconds
    with Opened.of(settings, new=False, bucket=bucket, progress=progress) as opened:
        size = point.segment_bytes
        wal = Archive(opened.repository, opened.cipher, point.system_identifier, size)
        at = positions.lsn(point.lsn) // size * size
        newest: datetime | None = None
        while True:
            piece = _most(wal, positions.segment(point.timeline, at, size))
            if piece is not None and piece.beat_at is not None:
                newest = max(piece.beat_at, newest or piece.beat_at)
                if piece.beat_at > point.at:
                    return time.monotonic() - began
            if piece is not None and piece.whole:
                at += size
                continue
            now = time.monotonic()
            if now - began > limit:
                raise _not_there(settings, point, bucket, newest, limit)
            if now - told > _TOLD_SECONDS:
                told = now
                progress(f"waiting for WAL up to {point.lsn} in the repository")
            time.sleep(_POLL_SECONDS)


def wait_for_moment(settings: Settings, moment: datetime, progress: Progress) -> None:
    """Until that moment can be restored from the first bucket. It returns as well when it will not come:
    without a backup, while no stream ships, or after `drills.wal_wait_seconds`. The restore says what is
    missing."""
    ends = time.monotonic() + settings.drills.wal_wait_seconds
    told = False
    with Opened.of(settings, new=False, progress=progress) as opened:
        while time.monotonic() < ends:
            try:
                past = Past.read(opened)
                spans = past.spans(past.timeline)
            except Mismatch:
                return
            if not spans or spans[-1].to >= moment or not _is_shipping(settings):
                return
            if not told:
                progress(f"waiting for WAL up to {moment:%F %T} UTC in the repository")
                told = True
            time.sleep(_POLL_SECONDS)


def _is_shipping(settings: Settings) -> bool:
    _, problems = status.read(status.place(settings))
    return all(problem.what != status.NOT_TAKEN for problem in problems)


def _most(wal: Archive, file: str) -> Piece | None:
    """Of one that is damaged the restore says so."""
    return best(wal.pieces(file, problems=[])).get(file)


def _not_there(
    settings: Settings, point: Point, bucket: Bucket, newest: datetime | None, limit: int
) -> Mismatch:
    _, problems = status.read(status.place(settings))
    said = (
        "; ".join(f"{each.what} ({each.found})" for each in problems) or "the stream of WAL sees no problem"
    )
    until = (
        "no heartbeat behind it" if newest is None else f"the newest heartbeat there is of {newest:%F %T} UTC"
    )
    return Mismatch(
        f"WAL up to {point.lsn} did not come into the {bucket} bucket",
        expected=f"a heartbeat of {point.at:%F %T} UTC or later within {limit} s",
        found=f"{until}; {said}",
        next="bilten wal status; bilten up starts the stream; then the drill again",
    )
