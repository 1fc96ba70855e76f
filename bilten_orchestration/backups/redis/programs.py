"""redis-server here: it checks RDB files under the name redis-check-rdb, and serves restored ones."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.errors import Refused
from bilten_orchestration.local import redis as embedded
from bilten_orchestration.local.privileges import ServerUser, outside_directory, reachable_copy, server_user
from bilten_orchestration.settings import Settings

Version = tuple[int, int]
_DATA = Path("data") / "redis"  # where the embedded server says which binary it was started with
_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Program:
    """`binary` where `user` (None: whoever calls) can reach it; it is run as that user."""

    binary: Path
    version: str
    user: ServerUser | None

    @property
    def reads(self) -> Version:
        """It reads files of this version and of earlier ones."""
        return parsed(self.version)


def find(settings: Settings) -> Program:
    """BILTEN_REDIS__REDIS_BIN's, otherwise the embedded server's own. Raises Refused when it does not run."""
    user = server_user()
    given = settings.redis.redis_bin
    if given is None:
        home = settings.home
        started = next(
            (
                data
                for data in (home / _DATA, outside_directory(home) / _DATA)
                if (data / embedded.RECORD).exists()
            ),
            home / _DATA,
        )
        binary = embedded.binary(home, user, started)
    else:
        binary = reachable_copy(given.resolve() / "redis-server", settings.home, user)
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused(
            f"{binary} does not run",
            expected="redis-server of the server's version or later",
            found=str(error),
            next="correct BILTEN_REDIS__REDIS_BIN",
        ) from None
    version = re.search(r"v=(\d+\.\d+\.\d+)", said)
    if version is None:
        raise Refused(
            f"{binary} is no redis-server",
            expected="Redis server v=...",
            found=said.strip()[:200],
            next="correct BILTEN_REDIS__REDIS_BIN",
        )
    return Program(binary, version[1], user)


def parsed(version: str) -> Version:
    """Major and minor: the format of files changes with these alone."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
