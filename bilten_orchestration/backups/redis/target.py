"""Where a restore goes: refused before anything is written, held by one, and given its name at the end."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bilten_orchestration.backups.redis import programs, scratch, server
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.errors import NO_ROOM, LockHeld, Problem, Refused
from bilten_orchestration.local.privileges import ServerUser, reachable, server_directory
from bilten_orchestration.progress import Progress

_ROOM = 2.1  # the snapshot and the append-only file, which begins with the same
_MEMORY = 1.25  # of what the data took in the server: tables of its own, pages copied by a rewrite


def growing(target: Path) -> Path:
    """Where it lies until it is whole."""
    return target.parent / f"{target.name}.restoring"


def refuse(backup: Manifest, program: programs.Program, target: Path) -> None:
    """Raises Refused with everything that forbids this restore."""
    parts = growing(target)
    problems = []
    version = backup.versions["redis"]
    if program.reads < programs.parsed(version):
        problems.append(server.older_program(program, version))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        runs = " on which a server may run" if (target / scratch.SOCKET).exists() else ""
        problems.append(
            Problem(
                f"{target} is not empty",
                expected="a new directory",
                found=f"files{runs}",
                next="name another directory; nothing is ever restored over files",
            )
        )
    place = next(parent for parent in (target.parent, *target.parents) if parent.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK) or not _ours(parts):
        problems.append(
            Problem(
                f"{parts} cannot be made, or made empty",
                expected=f"a directory that we may write into, and no file {parts.name} in it",
                found=f"{place}, which does not allow it",
                next="name another directory",
            )
        )
    free, needed = shutil.disk_usage(place).free, int(backup.raw_bytes * _ROOM)
    if free < needed:
        problems.append(
            Problem(
                f"{place} has too little room",
                expected=f"{needed >> 20:,} MiB",
                found=f"{free >> 20:,} MiB",
                next="name a directory on another file system",
            )
        )
    memory = psutil.virtual_memory().available
    if memory < (needed := int(int(backup.details.get("used_memory_bytes", backup.raw_bytes)) * _MEMORY)):
        problems.append(
            Problem(
                "this machine has too little memory to load the backup",
                expected=f"{needed >> 20:,} MiB",
                found=f"{memory >> 20:,} MiB",
                next="restore on another machine: the repository and the key file are all that it needs",
            )
        )
    if len(os.fsencode(parts / scratch.SOCKET)) > scratch.LONGEST_SOCKET_BYTES:
        problems.append(
            Problem(
                f"the name of {target} is too long for a socket in it",
                expected=f"{scratch.LONGEST_SOCKET_BYTES} bytes with /{scratch.SOCKET}",
                found=f"{len(os.fsencode(parts / scratch.SOCKET))} bytes",
                next="name a shorter path; the directory can be moved afterwards",
            )
        )
    if not reachable(place, program.user):
        assert program.user is not None  # noqa: S101
        problems.append(
            Problem(
                f"{program.user.name}, whom servers run as, cannot walk to {place}",
                expected="search permission (x) on every part of the path",
                found="a part without it",
                next="name a directory below one that everybody may enter, such as /var/lib",
            )
        )
    if problems:
        raise Refused(problems)


def _ours(parts: Path) -> bool:
    return not parts.exists() or (parts.is_dir() and os.access(parts, os.W_OK | os.X_OK))


@contextmanager
def alone(parts: Path, user: ServerUser | None, progress: Progress) -> Iterator[None]:
    """Hold the directory, emptied; an error removes it. Raises LockHeld when somebody else holds it."""
    server_directory(parts, user)
    descriptor = os.open(parts, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = parts.exists() and os.path.samestat(os.fstat(descriptor), parts.stat())
        except BlockingIOError:
            same = False
        if not same:  # or it became somebody's target between the two lines
            raise LockHeld(
                f"another restore is at work in {parts}",
                expected="one restore to a directory",
                found="its lock is held",
                next="wait for it, or name another directory",
            )
        for pid in scratch.end(parts):
            progress(f"ended the server (pid {pid}) that a restore which was killed left in {parts}")
        for left in parts.iterdir():
            progress(f"removing {left}, which a restore that was killed left")
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            yield
        except BaseException as error:
            shutil.rmtree(parts, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise Refused(
                    f"{parts.parent} has no room any more",
                    expected="room for the snapshot and the append-only file",
                    found=error.strerror or "none",
                    next="free room there, or name a directory on another file system",
                ) from None
            raise
    finally:
        os.close(descriptor)


def rename(parts: Path, target: Path) -> None:
    """The last step: from here on it is a whole one, also after a power cut."""
    if target.exists():
        target.rmdir()  # empty, or _refuse had refused it
    os.rename(parts, target)
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
