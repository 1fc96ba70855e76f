"""A server of our own on a directory: reached over a socket in it that nobody else can open, no TCP port, no
snapshots of its own, no bound that would evict keys.

It is killed when who started it ends (local/launch.py), except where it is to stay; then, and where the
system has no such thing, `end` finds it by its directory.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bilten_orchestration.backups.redis.programs import Program
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.local import child, launch, processes
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from redis import Redis

SOCKET = "redis.sock"
LOG = "redis.log"
LONGEST_SOCKET_BYTES = 103  # sun_path of the systems that have the least
DATABASES = 16
_STUCK_SECONDS = 120
_STOP_SECONDS = 120
_ANSWER_SECONDS = 10
_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 0.5
_TOLD_EVERY_SECONDS = 2
_LAST_WORDS = 6
_ANOTHER = (
    "restore another backup, or this one with a redis-server of its own version (BILTEN_REDIS__REDIS_BIN)"
)


@dataclass(frozen=True, slots=True)
class Scratch:
    """A running server. `names` are those of its files, as redis.conf has them."""

    process: subprocess.Popen[bytes]
    directory: Path
    names: Mapping[str, str]

    def client(self) -> Redis:
        return _client(self.directory)

    def keys(self) -> dict[int, int]:
        """Keys by number of the database."""
        with contextlib.closing(self.client()) as client:
            found: dict[str, Any] = client.info("keyspace")
        return {int(name.removeprefix("db")): int(each["keys"]) for name, each in found.items()}

    def loaded(self, progress: Progress) -> None:
        """Wait until it has loaded its files. Raises Mismatch when it ends, or gets no further."""
        self._wait(
            lambda info: info["loading"] == 0,
            lambda info: info.get("loading_loaded_bytes"),
            lambda info: f"loading, {info.get('loading_loaded_perc', 0)} %",
            progress,
        )

    def append(self, progress: Progress) -> None:
        """Write all it holds into an append-only file, and wait for that.

        Raises Mismatch when that fails, which leaves the directory without one.
        """
        from redis.exceptions import ResponseError

        with contextlib.closing(self.client()) as client:
            try:
                client.config_set("appendonly", "yes")
            except ResponseError as error:
                raise self._failed(str(error), next="see what it said: memory for a fork") from None
        info = self._wait(
            lambda info: (
                info["aof_last_bgrewrite_status"] != "ok"  # it would try again without end
                or (
                    info["aof_enabled"] == 1
                    and info["aof_rewrite_in_progress"] == info["aof_rewrite_scheduled"] == 0
                    and info["aof_last_rewrite_time_sec"] >= 0
                )
            ),
            lambda info: _bytes_in(self.directory),
            lambda info: f"rewriting, {_bytes_in(self.directory) >> 20:,} MiB in its directory",
            progress,
        )
        found = {name: info[name] for name in ("aof_last_bgrewrite_status", "aof_last_write_status")}
        if set(found.values()) != {"ok"}:
            said = ", ".join(f"{name}:{value}" for name, value in found.items())
            raise self._failed(said, next="see what it said: room on this disk, memory for a fork")

    def stop(self) -> None:
        """As a deployment stops its server. Raises Mismatch when it does not end well."""
        with contextlib.closing(self.client()) as client:
            client.shutdown(nosave=True)
        try:
            code = self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise self._failed(f"it runs {_STOP_SECONDS} s after SHUTDOWN") from None
        if code:
            raise self._failed(f"exit code {code} after SHUTDOWN")

    def _wait(
        self,
        done: Callable[[dict[str, Any]], bool],
        marker: Callable[[dict[str, Any]], object],
        said: Callable[[dict[str, Any]], str],
        progress: Progress,
    ) -> dict[str, Any]:
        """Poll INFO until `done`. When `marker` has stood still for two minutes it is stuck, and not slow."""
        from redis.exceptions import ConnectionError, TimeoutError

        moved = told = time.monotonic()
        last: object = None
        pause = _POLL_SECONDS
        with contextlib.closing(self.client()) as client:
            while True:
                code = self.process.poll()
                if code is not None:
                    raise self._failed(f"it ended with {code}")
                info: dict[str, Any] = {}
                with contextlib.suppress(ConnectionError, TimeoutError):  # it does not listen yet, or is busy
                    info = client.info("persistence")
                now = time.monotonic()
                if info:
                    if done(info):
                        return info
                    if (found := marker(info)) != last:
                        last, moved = found, now
                    if now - told > _TOLD_EVERY_SECONDS:
                        told = now
                        progress(said(info))
                if now - moved > _STUCK_SECONDS:
                    raise self._failed(f"no further for {_STUCK_SECONDS} s: {said(info)}")
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_POLL_SECONDS)

    def _failed(self, found: str, *, next: str = _ANOTHER) -> Mismatch:
        return Mismatch(
            f"a Redis of our own does not accept what was restored to {self.directory}",
            expected="all of it loaded, and appended to a file",
            found=f"{found}; it said: {last_words(self.directory)}",
            next=next,
        )


@contextmanager
def running(
    program: Program,
    directory: Path,
    names: Mapping[str, str],
    *,
    appendonly: bool,
    databases: int = DATABASES,
    stays: bool = False,
) -> Iterator[Scratch]:
    """A server on this directory, which its user owns. It is gone when the block is left, except one that
    `stays`, which only an exception kills."""
    arguments = {
        "port": "0",
        "unixsocket": SOCKET,  # in its directory, by whatever name that has
        "unixsocketperm": "700",
        "daemonize": "no",
        "set-proc-title": "no",
        "save": "",
        "appendonly": "yes" if appendonly else "no",
        "aof-use-rdb-preamble": "yes",
        "databases": str(databases),
        **names,
    }
    with (directory / LOG).open("ab") as log:
        process = child.start(
            [
                program.binary,
                *(part for name, value in arguments.items() for part in (f"--{name}", value)),
            ],
            directory=directory,  # by which `end` knows it
            environment={"PATH": os.defpath, "LC_ALL": "C"},
            user=program.user,
            stays=stays,
            stdout=log,
        )
    kept = False
    try:
        yield Scratch(process, directory, names)
        kept = stays
    finally:
        if not kept and process.poll() is None:
            process.kill()
        if not kept:
            process.wait()


def end(directory: Path) -> list[int]:
    """End the servers of ours that work in this directory, as SIGTERM does: what they were told is kept.

    Returns their pids. They are known by their directory and their arguments: a socket would not tell of one
    that does not listen yet.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if (SOCKET in words or launch.__file__ in words) and process.cwd() == str(directory.resolve()):
                found.append(process)
    return processes.end(found, seconds=_STOP_SECONDS)


def _client(directory: Path) -> Redis:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis(
        unix_socket_path=str(directory / SOCKET),
        socket_timeout=_ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _bytes_in(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def last_words(directory: Path) -> str:
    """The server's last lines, without those that quote a key, which may be a session's."""
    lines = [
        line.strip() for line in (directory / LOG).read_text(errors="replace").splitlines() if line.strip()
    ]
    return " | ".join(line for line in lines[-_LAST_WORDS:] if "key '" not in line)[-600:]
