"""An RDB file, checked by redis-check-rdb and counted.

redis-check-rdb reads every value and the checksum at the end, and tells keys in all. How many each database
holds the server wrote behind the number of the database (RESIZEDB, src/rdb.c: exact, for a snapshot does not
grow), so they are read there, at the places that redis-check-rdb names; their sum must be what it counted.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from bilten_orchestration.backups.redis.programs import Program
from bilten_orchestration.errors import Mismatch

_RESIZEDB = 0xFB
# of a file that is checked at 2 MB/s, the slowest that was seen being 40
_SECONDS, _BYTES_PER_SECOND = 60, 2_000_000
_AUX = re.compile(r"AUX FIELD ([\w-]+) = '(.*)'")
_DATABASE = re.compile(r"\[offset (\d+)\] Selecting DB ID (\d+)")
_INFO = re.compile(r"\[info\] (\d+) (keys read|expires|already expired)")


@dataclass(frozen=True, slots=True)
class Counted:
    """What a file holds. `keys` by number of the database, those that have expired included.

    `expired` had expired when the file was checked; a server that loads it drops them. `at` is the moment of
    the snapshot by the server's clock. Without a `checksum` a flipped bit inside a value goes unnoticed.
    """

    version: str
    at: datetime
    keys: dict[int, int]
    expiring: int
    expired: int
    checksum: bool

    @property
    def total(self) -> int:
        return sum(self.keys.values())


def check(program: Program, file: IO[bytes]) -> Counted:
    """Check a file, from its start, and count it. It has to be open and may have no name.

    Raises Mismatch when redis-check-rdb does not accept it, or its counts differ from the file's own.
    """
    size = file.seek(0, 2)
    file.seek(0)
    user = program.user
    try:
        done = subprocess.run(
            ["redis-check-rdb", f"/dev/fd/{file.fileno()}"],  # noqa: S607 the name, not the path: see executable
            executable=program.binary,
            pass_fds=[file.fileno()],
            cwd="/",
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=_SECONDS + size / _BYTES_PER_SECOND,
            # what came over the network is never read as root
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else [],
        )
    except subprocess.TimeoutExpired as error:
        raise _not_accepted(f"no end after {error.timeout:.0f} s") from None
    said = done.stdout.decode(errors="replace")
    if done.returncode or "RDB looks OK" not in said:
        raise _not_accepted(_why(said) or f"exit code {done.returncode}")
    aux = dict(_AUX.findall(said))
    info = {name: int(number) for number, name in _INFO.findall(said)}
    keys = {int(number): _size(file, int(offset)) for offset, number in _DATABASE.findall(said)}
    file.seek(0)
    try:
        counted = Counted(
            version=aux["redis-ver"],
            at=datetime.fromtimestamp(int(aux["ctime"]), UTC),
            keys=keys,
            expiring=info["expires"],
            expired=info["already expired"],
            checksum="Checksum OK" in said,
        )
        read = info["keys read"]
    except (KeyError, ValueError) as error:
        raise _not_accepted(f"no {error} told") from None
    if counted.total != read:
        raise _not_accepted(f"{read} keys, where its own headers say {counted.total}")
    return counted


def _why(said: str) -> str:
    """The lines of an error; not those that quote a key, which may be a session's."""
    lines = said.splitlines()
    at = next((number for number, line in enumerate(lines) if "RDB ERROR" in line), None)
    if at is None:
        return ""
    return " | ".join(line.strip() for line in lines[at + 1 : at + 3] if "key '" not in line)[:300]


def _size(file: IO[bytes], offset: int) -> int:
    """The size of the database whose number ends at `offset`."""
    file.seek(offset)
    head = file.read(10)
    if not head or head[0] != _RESIZEDB:
        raise _not_accepted(f"no size of a database at offset {offset}")
    return length(head[1:])


def length(encoded: Sequence[int]) -> int:
    """A number as RDB files write lengths: 6, 14, 32 or 64 bits, told by the first two (or eight)."""
    first = encoded[0]
    if first >> 6 == 0:
        return first
    size = 1 if first >> 6 == 1 else {0x80: 4, 0x81: 8}.get(first)
    if size is None or len(encoded) < 1 + size:
        raise _not_accepted(f"a size that begins with {first:#x}")
    rest = int.from_bytes(bytes(encoded[1 : 1 + size]), "big")
    return (first & 0x3F) << 8 | rest if size == 1 else rest


def _not_accepted(found: str) -> Mismatch:
    return Mismatch(
        "redis-check-rdb does not accept the snapshot of Redis",
        expected="a whole file whose checksum holds",
        found=found,
        next="take or restore another one; when it happens again, look at the server's memory and its log",
    )
