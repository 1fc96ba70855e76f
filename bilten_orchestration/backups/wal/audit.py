"""Whether every segment of WAL that a restore may need is in a bucket, and whole.

    1. every base backup that point in time recovery may start from has its own range
    2. from the oldest of them to now there is no gap, over all switches of timeline
    3. every object has the name and the size that it was written with
    4. those that no audit has read yet decrypt to what their names say (deep: all of them)
    5. no object, and no backup, is under a key that is lost

What was read is remembered in the state directory; without that file everything is read again.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.wal import coverage, positions
from bilten_orchestration.backups.wal.archive import Archive, Piece
from bilten_orchestration.backups.wal.coverage import Gap
from bilten_orchestration.backups.wal.past import Past, Start
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

# the promise of the retention, and what may be lost at most
WINDOW = timedelta(days=7)
RPO = timedelta(minutes=5)
_AT_ONCE = 4
_TOLD_EVERY = 200


@dataclass(frozen=True, slots=True)
class AuditReport:
    """`begin` is the oldest moment of point in time recovery, `to` the newest; None when there is none.
    `segments` lie in between, `read` of all objects were decrypted now."""

    bucket: str
    begin: datetime | None
    to: datetime | None
    timeline: int
    segments: int
    read: int
    gaps: tuple[Gap, ...]
    problems: tuple[Problem, ...]


def audit(
    settings: Settings,
    *,
    deep: bool = False,
    bucket: Bucket = "first",
    now: datetime | None = None,
    progress: Progress = silent,
) -> AuditReport:
    """Audit one bucket. What is missing or damaged is in the report.

    Raises Mismatch when there is no backup to begin with, StoreUnavailable: what could not be read is neither
    good nor bad.
    """
    moment = now or datetime.now(UTC)
    with Opened.of(settings, new=False, bucket=bucket, progress=progress) as opened:
        past = Past.read(opened)
        problems = list(past.problems)
        timeline = past.timeline
        starts = _that_count(past.starts(timeline), moment)
        path = past.path(timeline)
        own = [
            _of_backup(start, gap)
            for start in starts
            for gap in coverage.gaps(past.best, path, start.begin, start.end, past.segment_bytes)
        ]
        gaps: tuple[Gap, ...] = ()
        segments = 0
        if starts:
            begin = starts[0].begin
            end = max(begin, past.end(timeline))
            gaps = coverage.gaps(past.best, path, begin, end, past.segment_bytes)
            segments = -(-(end - begin) // past.segment_bytes)
        to = max((start.until for start in starts if not start.ahead), default=None)
        problems += [_gap(gap) for gap in gaps] or own
        if not starts:
            problems.append(_no_start(past))
        elif to is not None and moment - to > RPO:
            problems.append(_ended(past, to, moment))
        problems += _lost_keys(past, opened.ring.keys)
        wal = Archive(opened.repository, opened.cipher, past.system_identifier, past.segment_bytes)
        seen = _Seen(settings.home / "wal-audit.json", opened.repository.bucket)
        pieces = [piece for piece in wal.pieces(problems=[]) if piece.key_id in opened.ring.keys]
        wanted = pieces if deep else [piece for piece in pieces if piece.name not in seen.names]
        problems += _read(wal, wanted, seen, progress)
        seen.keep({piece.name for piece in pieces})
    return AuditReport(
        opened.repository.bucket,
        starts[0].consistent_at if starts else None,
        to,
        timeline,
        segments,
        len(wanted),
        gaps,
        tuple(problems),
    )


def _that_count(starts: tuple[Start, ...], now: datetime) -> tuple[Start, ...]:
    """Those of the window, and the newest one before it: older ones hold the WAL that makes them consistent,
    and retention takes the rest."""
    within = [start for start in starts if start.consistent_at >= now - WINDOW]
    before = [start for start in starts if start.consistent_at < now - WINDOW]
    return (*before[-1:], *within)


def _read(wal: Archive, wanted: list[Piece], seen: _Seen, progress: Progress) -> list[Problem]:
    def one(piece: Piece) -> tuple[Problem, ...]:
        try:
            wal.contents(piece)
        except Mismatch as error:
            return () if wal.outgrown(piece) else error.problems
        seen.names.add(piece.name)
        return ()

    found: list[Problem] = []
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wal-audit") as pool:
        for number, problems in enumerate(pool.map(one, wanted), start=1):
            found.extend(problems)
            if number % _TOLD_EVERY == 0:
                progress(f"{number:,} of {len(wanted):,} objects read")
    return found


class _Seen:
    """The names of what earlier audits of a bucket have read and found whole."""

    def __init__(self, path: Path, bucket: str) -> None:
        self._path, self._bucket = path, bucket
        try:
            document = json.loads(path.read_text())
            self._all = {str(name): set(map(str, names)) for name, names in document.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            self._all = {}
        self.names = self._all.setdefault(bucket, set())

    def keep(self, there: Collection[str]) -> None:
        """For the next audit: of those that are still there."""
        self._all[self._bucket] = self.names & set(there)
        new = self._path.with_name(f"{self._path.name}.{threading.get_native_id()}.new")
        new.write_text(json.dumps({name: sorted(names) for name, names in self._all.items()}))
        os.replace(new, self._path)


def _gap(gap: Gap) -> Problem:
    return Problem(
        "WAL is missing: moments in this gap cannot be restored, nor any behind it from a backup before it",
        expected="every segment since the oldest backup of the window",
        found=str(gap),
        next="the second bucket may have it (bilten wal audit --bucket copy); bilten backup create postgres"
        " begins anew",
    )


def _of_backup(start: Start, gap: Gap) -> Problem:
    return Problem(
        f"{start.backup.manifest.id}: the WAL of its own range is not in the repository",
        expected=f"{positions.text(start.begin)} to {positions.text(start.end)}",
        found=f"missing: {gap}",
        next="it can be restored as of its end, and not to a later moment; see whether the stream runs",
    )


def _no_start(past: Past) -> Problem:
    return Problem(
        f"{past.bucket} holds no backup that a restore to a point in time could start from",
        expected=f"a full backup on the way to timeline {past.timeline}",
        found=f"{len(past.backups)} base backups, none of them usable",
        next="bilten backup create postgres",
    )


def _ended(past: Past, to: datetime, now: datetime) -> Problem:
    return Problem(
        f"WAL in {past.bucket} ends {(now - to).total_seconds() / 60:.0f} minutes ago",
        expected=f"at most {RPO.total_seconds() / 60:.0f} minutes",
        found=f"{to:%F %T} UTC",
        next="bilten wal status",
    )


def _lost_keys(past: Past, keys: Collection[str]) -> list[Problem]:
    lost: dict[str, int] = {}
    for piece in past.best.values():
        if piece.key_id not in keys:
            lost[piece.key_id] = lost.get(piece.key_id, 0) + 1
    return [
        Problem(
            f"{count} segments of WAL are under the key {key_id}, which is lost",
            expected=f"{key_id} in the key file",
            found=f"{', '.join(sorted(keys))}",
            next="put the copy of the key file that has it in its place (BILTEN_BACKUPS__KEY_FILE)",
        )
        for key_id, count in sorted(lost.items())
    ]
