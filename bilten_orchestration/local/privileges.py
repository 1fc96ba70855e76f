"""Whom the native servers run as.

PostgreSQL refuses to run as root, and the others have no need to. Started by root they run as
`nobody`; that user must be able to walk to the binaries and to the data. A checkout under a home
that only root may enter (0700) cannot be walked into, so there data and binaries are kept in a
directory of root's own below /var/lib, named after the checkout.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.errors import Refused

SERVER_USER = "nobody"
OUTSIDE = Path("/var/lib/bilten")


@dataclass(frozen=True, slots=True)
class ServerUser:
    name: str
    uid: int
    gid: int


def server_user() -> ServerUser | None:
    """The user that native servers are run as, or None where they run as whoever calls."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise Refused(
            f"there is no user {SERVER_USER}, and PostgreSQL refuses to run as root",
            expected=f"an entry for {SERVER_USER} in /etc/passwd",
            found="none",
            next="run as an ordinary user, or add that entry",
        ) from None
    return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def reachable(path: Path, user: ServerUser | None) -> bool:
    """Whether `user` may walk into `path` (which exists): search permission on every part of it."""
    if user is None:
        return True
    path = path.resolve()
    for part in (path, *path.parents):
        found = part.stat()
        if found.st_uid == user.uid:
            allowed = found.st_mode & 0o100
        elif found.st_gid == user.gid:
            allowed = found.st_mode & 0o010
        else:
            allowed = found.st_mode & 0o001
        if not allowed:
            return False
    return True


def outside_directory(home: Path) -> Path:
    """The directory that stands in for `home` where the server user cannot walk to it."""
    return OUTSIDE / hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]


def server_directory(path: Path, user: ServerUser | None) -> Path:
    """Make a directory that only the server's user (and root) can look into."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        os.chown(path, user.uid, user.gid)
    path.chmod(0o700)
    return path


def passable_directory(path: Path, mode: int = 0o711) -> Path:
    """Make a directory of ours that the server's user can walk through, whatever our umask takes away (the
    one of Dagster's processes everything)."""
    path.mkdir(mode=mode, exist_ok=True)
    path.chmod(mode)
    return path


def server_file(path: Path, text: str, user: ServerUser | None) -> None:
    """Write a file that only the server's user (and root) can read; replaced in one step."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        if user is not None:
            os.fchown(file.fileno(), user.uid, user.gid)
    temporary.replace(path)


def reachable_copy(source: Path, home: Path, user: ServerUser | None) -> Path:
    """`source` itself where the server's user can reach it, otherwise a copy that it can.

    The copy is made under a temporary name and renamed last; its name carries size and time of the
    original, so that another version is another copy.
    """
    directory = source if source.is_dir() else source.parent
    if reachable(directory, user):
        return source
    found = source.stat()
    target = outside_directory(home) / "programs" / f"{source.name}-{found.st_size}-{found.st_mtime_ns}"
    if not target.exists():
        for directory in (OUTSIDE, target.parent.parent, target.parent):
            passable_directory(directory, 0o755)
        temporary = target.with_name(f"{target.name}.new-{os.getpid()}")
        if source.is_dir():
            shutil.copytree(source, temporary, symlinks=True)
        else:
            shutil.copy2(source, temporary)
        # what was installed under a narrow umask is its owner's alone
        for path in (temporary, *temporary.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)
        temporary.replace(target)
    return target
