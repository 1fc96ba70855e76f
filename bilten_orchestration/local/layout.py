"""Where things lie in the state directory."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.errors import Refused
from bilten_orchestration.local.privileges import (
    ServerUser,
    outside_directory,
    passable_directory,
    reachable,
    server_user,
)

# sun_path is 108 bytes on Linux and 104 elsewhere; servers append names of their own, the longest
# being ".s.PGSQL.65535" and supervisord's ".<pid>"
SOCKET_PATH_BYTES = 104 - 24

SHORT = Path("/tmp")  # noqa: S108 - checked to be ours; not TMPDIR, which differs from shell to shell


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below `home`; `data` and `sockets` are elsewhere where they must be."""

    home: Path
    data: Path
    sockets: Path
    user: ServerUser | None

    @property
    def stack_env(self) -> Path:
        return self.home / "stack.env"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def programs(self) -> Path:
        return self.home / "programs"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def supervisor_configuration(self) -> Path:
        return self.home / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        return self.sockets / "supervisor" / "socket"

    @property
    def phases(self) -> Path:
        return self.home / "phases.json"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"


def layout(home: Path) -> Layout:
    """The layout of a state directory, which is made with its parts.

    The directories are passable for the server's user and readable for nobody else; every file in
    them that matters is the owner's alone.
    """
    user = server_user()
    data = passable_directory(for_servers(home, user) / "data")
    sockets = home / "run"
    if len(os.fsencode(sockets)) + len("/supervisor/socket") > SOCKET_PATH_BYTES or not reachable(home, user):
        digest = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]
        sockets = SHORT / f"bilten-{os.geteuid()}-{digest}"
    _own_directory(sockets, 0o711)
    found = Layout(home, data, sockets, user)
    for private in (found.logs, found.programs, found.dagster_home, found.supervisor_socket.parent):
        _own_directory(private, 0o700)
    return found


def for_servers(home: Path, user: ServerUser | None) -> Path:
    """The state directory, made, or the one that stands in for it where the servers' user cannot walk to
    it."""
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the state directory {home} cannot be made",
            expected="a directory that we may write into",
            found=error.strerror or str(error),
            next="run as the owner of the checkout, or set BILTEN_HOME to another directory",
        ) from None
    _own_directory(home, 0o711)
    if reachable(home, user):
        return home
    outside = outside_directory(home)
    passable_directory(outside.parent, 0o755)
    passable_directory(outside)
    return outside


def _own_directory(path: Path, mode: int) -> None:
    path.mkdir(mode=mode, exist_ok=True)
    found = path.lstat()
    # somebody else could have made the name in a shared directory first
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Refused(
            f"{path} is not ours",
            expected=f"a directory of user id {os.geteuid()}",
            found=f"{stat.filemode(found.st_mode)} of user id {found.st_uid}",
            next="run as its owner, or remove it",
        )
    path.chmod(mode)
