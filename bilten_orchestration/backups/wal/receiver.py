"""pg_receivewal, into the spool.

The spool holds a directory per generation: a new one is begun when WAL between what lies there and what the
server still has was removed, because pg_receivewal would go on asking for it for ever. What lies in an older
generation is shipped like everything else.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.backups.postgres import programs
from bilten_orchestration.backups.wal.slots import STREAM
from bilten_orchestration.errors import Problem
from bilten_orchestration.local import child
from bilten_orchestration.settings import PostgresSettings

APPLICATION = "bilten wal"
STATUS_SECONDS = 5
# of the limit: the spool is used again when it has fallen below
_RESUME_AT = 0.8
_LONGEST_PAUSE_SECONDS = 30.0
_STOP_SECONDS = 10.0
_REMOVED = "has already been removed"
_NO_ROOM = "No space left on device"


@dataclass(frozen=True, slots=True)
class Spool:
    """The directories that WAL of one server is received into."""

    directory: Path

    def generations(self) -> list[Path]:
        """Oldest first; the last is the one that is written to."""
        return sorted(path for path in self.directory.glob("[0-9]*") if path.is_dir())

    def current(self) -> Path:
        """The generation to write to, made where there is none."""
        found = self.generations()
        return found[-1] if found else self._make(1)

    def next(self) -> Path:
        return self._make(int(self.current().name) + 1)

    def files(self) -> Iterator[Path]:
        for generation in self.generations():
            yield from sorted(generation.iterdir())

    def mend(self, segment_bytes: int) -> None:
        """pg_receivewal fills a segment with zeros before it writes to it. Killed meanwhile it leaves a
        shorter one, and would refuse to start for ever."""
        for path in self.current().glob("*.partial"):
            if path.stat().st_size not in (0, segment_bytes):
                os.truncate(path, segment_bytes)

    def size_bytes(self) -> int:
        return sum(_allocated(path) for path in self.files())

    def empty(self) -> bool:
        """Whether the current generation tells pg_receivewal nothing of where to go on."""
        return not any(self.current().iterdir())

    def _make(self, number: int) -> Path:
        path = self.directory / f"{number:06}"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


class Receiver:
    """The child, kept running. `problem` is why it does not run, None when it does; `gap` is set when the
    server has removed WAL that it needs."""

    def __init__(self, postgres: PostgresSettings, spool: Spool, limit_bytes: int, major: int) -> None:
        self.problem: Problem | None = None
        self.gap = False
        self._postgres = postgres
        self._spool = spool
        self._limit_bytes = limit_bytes
        self._program = programs.directory(postgres, major) / "pg_receivewal"
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._words: deque[str] = deque(maxlen=20)
        self._held = ExitStack()
        self._full = False
        self._pause_seconds = 1.0
        self._not_before = 0.0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tick(self, prepare: Callable[[], None]) -> None:
        """Start it when it does not run and may; stop it when the spool is full. To be called every second.

        `prepare` is called right before a start.
        """
        used = self._spool.size_bytes()
        # it writes zeros into a whole segment first: room for two more must be there
        self._full = used >= self._limit_bytes * (_RESUME_AT if self._full else 1)
        if self._full:
            self.stop()
            self.problem = Problem(
                "the spool of WAL is full: no more is taken, and PostgreSQL keeps it",
                expected=f"less than {self._limit_bytes >> 20} MiB in {self._spool.directory}",
                found=f"{used >> 20} MiB",
                next="see why WAL is not shipped (bilten wal status); BILTEN_BACKUPS__WAL_SPOOL_BYTES",
            )
            return
        if self.running:
            if time.monotonic() > self._not_before:
                self.problem, self._pause_seconds = None, 1.0
            return
        if self._process is not None:
            self._ended(self._process)
        if time.monotonic() >= self._not_before:
            prepare()
            self._start()

    def stop(self) -> None:
        """End it in its own way; it leaves the segment that it is at."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close()

    def _start(self) -> None:
        conninfo, environment = self._held.enter_context(
            programs.connection_arguments(self._postgres, APPLICATION)
        )
        self._words.clear()
        # an orphan would hold the slot, and fill the disk with nobody to watch over the limit
        self._process = child.start(
            [
                self._program,
                f"--dbname={conninfo}",
                f"--directory={self._spool.current()}",
                f"--slot={STREAM}",
                f"--status-interval={STATUS_SECONDS}",
                "--no-loop",
                "--no-password",
            ],
            directory=self._spool.directory,
            environment=environment,
            stderr=subprocess.PIPE,
        )
        process, words = self._process, self._words

        def listen() -> None:
            assert process.stderr is not None  # noqa: S101
            for line in process.stderr:
                words.append(line.decode(errors="replace").strip())

        self._listener = threading.Thread(target=listen, name="pg_receivewal-stderr", daemon=True)
        self._listener.start()
        # one that lasts as long has come through what it says at its start
        self._not_before = time.monotonic() + 2.0

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        if self._listener is not None:
            self._listener.join(_STOP_SECONDS)
        said = " | ".join(self._words)[-600:]
        self.gap = self.gap or _REMOVED in said
        no_room = _NO_ROOM in said
        self.problem = Problem(
            "the disk of the spool is full: no more WAL is taken, and PostgreSQL keeps it"
            if no_room
            else "pg_receivewal ended; it is started again",
            expected="room" if no_room else "a stream that lasts",
            found=f"exit code {process.returncode}: {said or 'no word'}",
            next="make room there; BILTEN_BACKUPS__WAL_SPOOL names another place"
            if no_room
            else "bilten wal status in a minute; the server's log if it persists",
        )
        self._not_before = time.monotonic() + self._pause_seconds
        self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stderr is not None and self._listener is not None:
            self._listener.join(_STOP_SECONDS)
            self._process.stderr.close()
        self._process = self._listener = None
        self._held.close()


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # shipped meanwhile
        return 0
