"""A data directory from a backup, proven by a server that has loaded it.

A server that is configured with `appendonly yes` reads its append-only file alone: put beside none, a
snapshot (RDB) would be ignored, and overwritten at the next shutdown. So the directory that is handed over
has both. It grows under another name and gets its own at the end, so that a directory of that name is a whole
one. In order, and what a kill leaves:

    1. the target, the room, the key, the program are looked at   nothing is written
    2. <target>.restoring is locked; what a restore that was      the lock goes with its holder
       killed left there is removed, and its server ended
    3. the snapshot is written there, redis-check-rdb reads it,   the snapshot: removed by the next call
       its keys are compared with the manifest
    4. a server of our own loads it without an append-only        the same; the server is killed with us
       file, is given one, and the rewrite is awaited
    5. another one loads that, as the deployment's will           the same; with `start` it outlives us until
                                                                  the next call ends it
    6. <target>.restoring is renamed to <target>                  a whole directory; with `start` its server
                                                                  runs on

Keys that expire meanwhile are no loss: a server drops them as it loads, and they are counted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from bilten_orchestration.backups.redis import programs, rdb, scratch, server
from bilten_orchestration.backups.redis import target as place
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.told import Told
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.local.privileges import ServerUser
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_AT_ONCE = 2
_PLAIN = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """`directory` is ready for a server with `appendonly yes` and files of these `names` (redis.conf).

    `keys` by database, as a server has loaded them; `expired` of the backup's had expired by then. `version`
    is that of the server that was backed up, `program` that of the one that loaded it. `owner` owns the files
    (None: whoever calls). `dsn` and `stop` are told when it was started. Seconds by phase.
    """

    backup_id: str
    directory: Path
    names: Mapping[str, str]
    version: str
    program: str
    keys: Mapping[str, int]
    expired: int
    bytes: int
    owner: str | None
    download_seconds: float
    check_seconds: float
    load_seconds: float
    append_seconds: float
    reload_seconds: float
    dsn: str | None = None
    pid: int | None = None

    @property
    def stop(self) -> str | None:
        """How to end the server that was started; what it was told since is kept."""
        return None if self.pid is None else f"kill {self.pid}"


def restore(
    settings: Settings,
    backup_id: str,
    target: Path,
    *,
    start: bool = False,
    bucket: Bucket = "first",
    progress: Progress = silent,
) -> RestoreReport:
    """The data directory of one backup. With `start` a server runs on it, on a socket in it. `bucket` copy
    reads the second bucket and nothing of the first.

    Raises Refused before anything is written (target not empty, too little room or memory, a program that is
    older than the backup), LockHeld (another restore to the same target), Mismatch (no such backup, a lost
    key, damaged objects, a snapshot that redis-check-rdb or a server does not accept, keys that are missing).
    """
    target = target.absolute()
    growing = place.growing(target)
    with Opened.of(settings, new=False, bucket=bucket, progress=progress) as opened:
        backup = catalogue.read(opened.repository, opened.ring, "redis").find(backup_id).manifest
        program = programs.find(settings)
        place.refuse(backup, program, target)
        opened.ring.key(backup.key_id)
        with place.alone(growing, program.user, progress):
            seconds = _Seconds()
            names = _names(backup, program)
            file = growing / names["dbfilename"]
            _download(opened, backup, file, program.user, progress)
            seconds.next()
            progress(f"redis-check-rdb reads {backup.raw_bytes >> 20:,} MiB")
            counted = _checked(program, file)
            _as_the_manifest_says(backup, counted)
            seconds.next()
            databases = (
                max(scratch.DATABASES, *(number + 1 for number in counted.keys)) if counted.keys else 16
            )
            with scratch.running(program, growing, names, appendonly=False, databases=databases) as first:
                first.loaded(progress)
                _all_there(program, file, counted, first.keys())
                seconds.next()
                first.append(progress)
                first.stop()
                seconds.next()
            with scratch.running(
                program, growing, names, appendonly=True, databases=databases, stays=start
            ) as second:
                second.loaded(progress)
                keys = second.keys()
                _all_there(program, file, counted, keys)
                if not start:
                    second.stop()
                    for name in (scratch.SOCKET, scratch.LOG):
                        (growing / name).unlink(missing_ok=True)
                seconds.next()
                place.rename(growing, target)
    download, check, load, append, reload_ = seconds.each
    return RestoreReport(
        backup_id=backup_id,
        directory=target,
        names=names,
        version=counted.version,
        program=program.version,
        keys={f"db{number}": count for number, count in sorted(keys.items())},
        expired=counted.total - sum(keys.values()),
        bytes=backup.raw_bytes,
        owner=None if program.user is None else program.user.name,
        download_seconds=download,
        check_seconds=check,
        load_seconds=load,
        append_seconds=append,
        reload_seconds=reload_,
        dsn=f"unix://{target / scratch.SOCKET}" if start else None,
        pid=second.process.pid if start else None,
    )


class _Seconds:
    def __init__(self) -> None:
        self._at = time.monotonic()
        self.each: list[float] = []

    def next(self) -> None:
        now = time.monotonic()
        self.each.append(now - self._at)
        self._at = now


def _names(backup: Manifest, program: programs.Program) -> dict[str, str]:
    """Of the files, as the server that was backed up has them; a name of a path is not taken over."""
    found = {
        name: said if _PLAIN.fullmatch(said := backup.details.get(name, usual)) else usual
        for name, usual in server.FILE_NAMES.items()
    }
    if program.reads < (7, 0):
        del found["appenddirname"]
    return found


def _download(
    opened: Opened, backup: Manifest, file: Path, user: ServerUser | None, progress: Progress
) -> None:
    """The slices side by side, each to its own place."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if user is not None:
            os.fchown(descriptor, user.uid, user.gid)

        def one(wanted: BackupObject, at: int) -> None:
            for chunk in Told(progress, doing=f"of {wanted.name} written").counting(
                opened.get(backup, wanted)
            ):
                left = memoryview(chunk)
                while left:
                    written = os.pwrite(descriptor, left, at)
                    at += written
                    left = left[written:]

        ends = list(accumulate(each.raw_bytes for each in backup.objects))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore") as pool:
            list(pool.map(one, backup.objects, [0, *ends[:-1]]))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(program: programs.Program, file: Path) -> rdb.Counted:
    with file.open("rb") as opened:
        return rdb.check(program, opened)


def _as_the_manifest_says(backup: Manifest, counted: rdb.Counted) -> None:
    found = {f"db{number}": keys for number, keys in counted.keys.items()}
    if found != dict(backup.counts):
        raise _missing("the snapshot", str(dict(backup.counts)), str(found))


def _all_there(
    program: programs.Program, file: Path, counted: rdb.Counted, loaded: Mapping[int, int]
) -> None:
    """Whether a server that loaded the file holds every key of it that has not expired.

    It may lack as many as had expired when it was asked, and must lack those that had expired before it
    started; none of a database may be too many.
    """
    lacks = {number: keys - loaded.get(number, 0) for number, keys in counted.keys.items()}
    lost = sum(lacks.values())
    good = set(loaded) <= set(counted.keys) and min(lacks.values(), default=0) >= 0
    most = counted.expired if lost == counted.expired else _checked(program, file).expired
    if not good or not counted.expired <= lost <= most:
        raise _missing(
            "the server that loaded it",
            f"{counted.keys}, less the {counted.expired} to {most} that had expired",
            str(dict(loaded)),
        )


def _missing(where: str, expected: str, found: str) -> Mismatch:
    return Mismatch(
        f"{where} does not hold the keys of the backup",
        expected=expected,
        found=found,
        next="restore another backup, and tell who looks after this one: bilten backup list",
    )
