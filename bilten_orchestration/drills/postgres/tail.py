"""Which files WAL names behind the newest summary, up to a drill's point: from the repository, by pg_waldump.

Read is from the beginning of the segment that holds the last summary's end, which is where a record begins;
pg_waldump ends well only when it came to the point. Anything else, also a line that is no record, and nothing
is known.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from bilten_orchestration.backups.postgres import programs
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.archive import Archive, best
from bilten_orchestration.drills.postgres.point import Point
from bilten_orchestration.drills.postgres.unchanged import File
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

_BLOCK = re.compile(r"blkref #\d+: rel \d+/(\d+)/(\d+)")
# CREATE base/5/16384, TRUNCATE base/5/16384 to 0 blocks: of a file, without a block
_STORAGE = re.compile(r"/(\d+)/(\d+)")


def changed(
    settings: Settings, point: Point, until: str, major: int, place: Path, progress: Progress
) -> frozenset[File]:
    """Files that WAL of `until` up to the point names; the point's WAL is in the repository.

    `place` is a directory that is made and removed. Raises Mismatch where it is not known, Refused where
    there is no program, and what the repository does.
    """
    if positions.lsn(until) >= positions.lsn(point.lsn):
        return frozenset()
    place.mkdir(0o700)
    try:
        _fetch(settings, point, until, place)
        progress(f"looking for what changed from {until} to {point.lsn}")
        return _named(settings, point, until, major, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _fetch(settings: Settings, point: Point, until: str, place: Path) -> None:
    size = point.segment_bytes
    with Opened.of(settings, new=False) as opened:
        wal = Archive(opened.repository, opened.cipher, point.system_identifier, size)
        at = positions.lsn(until) // size * size
        while at < positions.lsn(point.lsn):
            name = positions.segment(point.timeline, at, size)
            piece = best(wal.pieces(name)).get(name)
            if piece is None:
                raise Mismatch(
                    f"{name} is not in the repository", expected="WAL up to the point", found="none"
                )
            contents = wal.contents_by_now(piece)
            with (place / name).open("wb") as file:
                file.write(contents)
                file.truncate(size)
            at += size


def _named(settings: Settings, point: Point, until: str, major: int, place: Path) -> frozenset[File]:
    begin = positions.lsn(until) // point.segment_bytes * point.segment_bytes
    program = programs.directory(settings.postgres, major) / "pg_waldump"
    found: set[File] = set()
    strange = ""
    with subprocess.Popen(
        [
            program,
            f"--path={place}",
            f"--timeline={point.timeline}",
            f"--start={positions.text(begin)}",
            f"--end={point.lsn}",
        ],
        cwd=place,
        env={"LC_ALL": "C", "TZ": "UTC"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101
        for line in process.stdout:
            if not line.startswith("rmgr: "):
                strange = strange or line.strip()
                continue
            found |= {(int(database), int(file)) for database, file in _BLOCK.findall(line)}
            if line.startswith("rmgr: Storage"):
                found |= {(int(database), int(file)) for database, file in _STORAGE.findall(line)}
            elif line.startswith("rmgr: Database"):
                strange = strange or line.strip()
    if process.returncode or strange:
        raise Mismatch(
            f"WAL from {until} to {point.lsn} cannot be read to its end",
            expected="records up to there, and exit 0 of pg_waldump",
            found=f"exit {process.returncode}; {strange[:200]}",
            next="nothing: every table is read",
        )
    return frozenset(found)
