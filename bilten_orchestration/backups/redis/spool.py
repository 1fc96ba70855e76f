"""Where a snapshot lies between the server and the repository: it is taken at full speed, so that the server
is done with it soon, and checked before anything is stored.

The file never has a name (O_TMPFILE; where a file system does not know that, it has one for an instant, and
no content), so that it is gone with its holder: neither a kill nor a power cut leaves one, and there is
nothing to sweep. It is bounded, and never takes the last room of the file system: a full disk would stop
whatever else writes there, PostgreSQL among it.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bilten_orchestration.errors import NO_ROOM, Refused
from bilten_orchestration.local.privileges import ServerUser
from bilten_orchestration.settings import Settings

_SPARED_PART, _SPARED_BYTES = 20, 1 << 30
_LOOK_EVERY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Room:
    """`bytes` that a snapshot may take in `place`: what is free less what is spared, or the bound."""

    place: Path
    bytes: int
    bound: int

    def refusal(self, needed: int, found: str) -> Refused:
        bounded = self.bytes >= self.bound
        return Refused(
            f"{self.place} has too little room for a snapshot of Redis",
            expected=f"room for {needed >> 20:,} MiB, and what is spared for others",
            found=found,
            next="raise BILTEN_BACKUPS__REDIS_SPOOL_BYTES"
            if bounded
            else "free room there, or set BILTEN_BACKUPS__REDIS_SPOOL to a directory on another disk",
        )


def place(settings: Settings) -> Path:
    return settings.backups.redis_spool or settings.home / "spool"


def room(settings: Settings) -> Room:
    """How large a snapshot may be now. The directory is made when it is not there."""
    where = place(settings)
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.statvfs(where)
    except OSError as error:
        raise Refused(
            f"the spool {where} cannot be used",
            expected="a directory that we may write into",
            found=error.strerror or str(error),
            next="set BILTEN_BACKUPS__REDIS_SPOOL to another directory",
        ) from None
    total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    bound = settings.backups.redis_spool_bytes
    return Room(where, min(bound, max(0, free - min(total // _SPARED_PART, _SPARED_BYTES))), bound)


@contextmanager
def filled(settings: Settings, chunks: Iterable[bytes], reader: ServerUser | None) -> Iterator[IO[bytes]]:
    """A file with these chunks, open, that `reader` may open again by its descriptor.

    Raises Refused when there is no room for it (any more), and what `chunks` raise.
    """
    found = room(settings)
    try:
        file = tempfile.TemporaryFile(prefix="redis-", suffix=".rdb", dir=found.place, buffering=0)  # noqa: SIM115
    except OSError as error:
        raise found.refusal(0, error.strerror or str(error)) from None
    with file:
        if reader is not None:
            os.fchown(file.fileno(), reader.uid, reader.gid)
        size = looked = 0
        for chunk in chunks:
            size += len(chunk)
            if size > found.bound:
                raise found.refusal(size, f"more than the bound of {found.bound >> 20:,} MiB")
            if size - looked >= _LOOK_EVERY_BYTES:
                looked = size
                if room(settings).bytes == 0:
                    raise found.refusal(size, f"no room after {size >> 20:,} MiB")
            _write(file, chunk, found, size)
        file.seek(0)
        yield file


def _write(file: IO[bytes], chunk: bytes, found: Room, size: int) -> None:
    left = memoryview(chunk)
    while left:
        try:
            left = left[os.write(file.fileno(), left) :]
        except OSError as error:
            if error.errno not in (*NO_ROOM, errno.EFBIG):
                raise
            raise found.refusal(size, f"{error.strerror} after {size >> 20:,} MiB") from None
