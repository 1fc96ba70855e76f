"""A server whose WAL is taken by a real `bilten wal stream`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal import status as statuses
from bilten_orchestration.backups.wal.archive import Archive, Piece, servers
from bilten_orchestration.settings import BackupSettings, Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import postgres
from tests import stack
from tests.conftest import Servers
from tests.waiting import until

SECONDS = 60.0


@dataclass
class Stream:
    """`bilten wal stream` as a process of its own."""

    settings: Settings
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    problems: list[str] = field(default_factory=list)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bilten_orchestration.cli.main", "wal", "stream"],
                env=self.environment | {"PYTHONPATH": str(Path(__file__).parents[4])},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: self._word_of_this(), "a word of the stream")

    def _word_of_this(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        found, _ = self.status()
        return found is not None and found.pid == self.process.pid

    def status(self) -> tuple[statuses.WalStatus | None, tuple[str, ...]]:
        found, problems = statuses.read(statuses.place(self.settings))
        return found, tuple(problem.what for problem in problems)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(30)
        self.process = None
        return code

    def kill(self) -> None:
        """The service alone: what it started has to end by itself."""
        if self.process is not None:
            children = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
            self.process = None
            _, alive = psutil.wait_procs(children, timeout=10)
            assert alive == []


@dataclass
class Source:
    """A migrated server, its WAL's stream, and a repository."""

    server: stack.PostgresServer
    settings: Settings
    stream: Stream
    base: Path

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with postgres.connect(self.settings.postgres, autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def write(self, megabytes: int) -> None:
        """About so much WAL, each part in a commit of its own."""
        for _ in range(megabytes):
            self.execute(
                "insert into kept (words) select repeat(md5(n::text), 30) from generate_series(1, 1000) n"
            )

    def now(self) -> datetime:
        (row,) = self.execute("select clock_timestamp()")
        found: datetime = row[0]
        return found

    def pieces(self, bucket: str = "first") -> list[Piece]:
        with Opened.of(self.settings, bucket="copy" if bucket == "copy" else "first") as opened:
            return [
                piece
                for identifier, size in servers(opened.repository)
                for piece in Archive(opened.repository, opened.cipher, identifier, size).pieces()
            ]

    def await_reach(self, moment: datetime, number: int = 0, seconds: float = SECONDS) -> datetime:
        """Until WAL of that moment is in the bucket (0: the first, 1: the second)."""

        def reached() -> datetime | None:
            found, _ = self.stream.status()
            at = None if found is None else found.buckets[number].reachable_until
            return at if at is not None and at >= moment else None

        try:
            found: datetime = until(reached, f"WAL of {moment} in the repository", seconds)
        except AssertionError as error:
            error.add_note(f"{self.stream.status()}\n{self.stream.log.read_text()[-2000:]}")
            raise
        return found


def _source(servers: Servers, server: stack.PostgresServer) -> Source:
    base = servers.base / f"wal-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    settings = Settings(
        home=base / "home",
        environment="test",
        postgres=server.settings(),
        object_store=servers.buckets(),
        backups=BackupSettings(
            slice_bytes=16 << 20,
            lock_wait_seconds=0,
            wal_ship_seconds=1,
            heartbeat_seconds=1,
            wal_spool_bytes=256 << 20,
        ),
    )
    from bilten_orchestration.migrations import runner

    runner.up(settings, store="postgres")
    with postgres.connect(settings.postgres) as connection:
        connection.execute("create table kept (id bigserial primary key, words text)")
    outside = {name: text for name, text in os.environ.items() if not name.startswith("BILTEN_")}
    return Source(
        server, settings, Stream(settings, outside | as_environment(settings), base / "stream.log"), base
    )


@pytest.fixture
def source(servers: Servers, own_postgres: stack.PostgresServer) -> Iterator[Source]:
    made = _source(servers, own_postgres)
    yield made
    made.stream.kill()


@pytest.fixture(scope="module")
def module_source(servers: Servers) -> Iterator[Source]:
    """One for all tests of a module, which leave it as they found it."""
    with stack.stopping() as running:
        server = stack.start_postgres(servers.base, f"postgres-{next(servers.numbers)}")
        running.append(server)
        made = _source(servers, server)
        yield made
        made.stream.kill()


@pytest.fixture
def streaming(source: Source) -> Source:
    source.stream.start()
    return source
