"""WAL that this machine has received and no bucket holds yet: the spool of `bilten wal stream`.

It outlives a server that is lost alone, and then ends later than any bucket does. So it is shipped before
PostgreSQL is restored, by what ships it always, and into the bucket that is restored from.

What is shipped are links to its files: the spool itself stays as it is, for the stream to ship into the
first bucket when it runs again. A kill leaves links beside it, removed by the next call, and objects that are
whole, which the next call finds.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.archive import Archive
from bilten_orchestration.backups.wal.heartbeat import Beats
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.backups.wal.receiver import Spool
from bilten_orchestration.backups.wal.ship import Shipper
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

_PARTIAL = ".partial"
_WAIT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Beyond:
    """What the spool holds behind the end of a bucket: `segments`, whole or a part of one, up to `until_lsn`.
    Until which moment that reaches is known when it was replayed."""

    directory: Path
    segments: int
    until_lsn: str


def look(settings: Settings, past: Past) -> Beyond | None:
    """None where the spool of that server is not here, or ends where the bucket does."""
    spool = _spool(settings, past)
    ends: set[int] = set()
    for path in spool.files():
        name = path.name.removesuffix(_PARTIAL)
        if not positions.is_segment(name) or positions.timeline_of(name) < past.timeline:
            continue
        size = len(path.read_bytes().rstrip(b"\0")) if path.name.endswith(_PARTIAL) else past.segment_bytes
        end = positions.start_of(name, past.segment_bytes) + size
        if size and end > past.end(positions.timeline_of(name)):
            ends.add(end)
    return Beyond(spool.directory, len(ends), positions.text(max(ends))) if ends else None


def ship(settings: Settings, bucket: Bucket, progress: Progress) -> None:
    """What the bucket lacks of it is there afterwards.

    Raises LockHeld while the stream runs (it ships by itself: it must have ended), and what storing raises.
    """
    with Opened.of(settings, new=False, bucket=bucket, progress=progress) as opened:
        past = Past.read(opened)
        found = look(settings, past)
        if found is None:
            return
        progress(f"{found.segments} segments of WAL from {found.directory}, up to {found.until_lsn}")
        with exclusive(
            settings.home / "wal-stream.lock", "recover site", progress, wait_seconds=_WAIT_SECONDS
        ):
            links = found.directory.with_name(f"{found.directory.name}.shipping")
            shutil.rmtree(links, ignore_errors=True)
            generations = [_linked(each, links / each.name) for each in _spool(settings, past).generations()]
            archive = Archive(opened.repository, opened.cipher, past.system_identifier, past.segment_bytes)
            done = Shipper([archive], Beats()).ship(generations, partial=True, written=None)
            if done.failed is not None:
                raise done.failed
            shutil.rmtree(links)


def _spool(settings: Settings, past: Past) -> Spool:
    return Spool((settings.backups.wal_spool or settings.home / "wal-spool") / past.system_identifier)


def _linked(generation: Path, links: Path) -> Path:
    links.mkdir(0o700, parents=True)
    for path in generation.iterdir():
        os.link(path, links / path.name)
    return links
