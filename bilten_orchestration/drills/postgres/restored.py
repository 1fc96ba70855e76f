"""A restored server that runs for as long as its drill asks it, with its phases told one by one.

It can touch nothing outside: it listens on a socket that nobody else reaches, follows nobody, archives
nothing, runs none of production's programs, starts no worker of logical replication (a subscription in it
connects nowhere), preloads nothing, and vacuums nothing, so that what proofs look at is what came back. It is
stopped whatever happens; what a kill leaves is ended by whoever takes the drill's place next (scratch.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.private import Running
from bilten_orchestration.backups.postgres.restore import Phases, RestoreReport, restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository.opened import Bucket
from bilten_orchestration.backups.wal import heartbeat
from bilten_orchestration.drills.course import Course
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

_SUPERUSER = "select rolname from pg_roles where rolsuper and rolcanlogin order by oid limit 1"


@dataclass(frozen=True, slots=True)
class Server:
    """`running` lets in the one who owns the database, `superuser` one who may check it. `beat_at` is the
    newest heartbeat in it, None without any."""

    running: Running
    superuser: str
    report: RestoreReport
    beat_at: datetime | None

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection]:
        """As the superuser, in autocommit."""
        running = self.running
        own = Running(running.directory, running.socket, self.superuser, database or running.database)
        with own.connect() as connection:
            yield connection

    @contextmanager
    def connections(self, number: int) -> Iterator[tuple[Connection, ...]]:
        with ExitStack() as stack:
            yield tuple(stack.enter_context(self.connect()) for _ in range(number))


@contextmanager
def restored(
    settings: Settings,
    target: Target,
    directory: Path,
    course: Course,
    *,
    bucket: Bucket,
    progress: Progress,
) -> Iterator[Server]:
    """The server as of the target, after it has answered its first query.

    Raises what backups/postgres/restore.py raises, and Mismatch when the server ends while it is asked.
    """
    course.bucket = bucket
    options = {"autovacuum": "off"} | private.bounded(settings.drills.shared_buffers_megabytes)
    report = restore(
        settings,
        target,
        directory,
        start=True,
        bucket=bucket,
        options=options,
        phase=course.phase,
        progress=progress,
    )
    try:
        course.phases = _told_apart(course.phases, report.phases)
        course.backups, course.restored_bytes = report.chain, report.bytes
        course.stored_bytes = report.stored_bytes
        course.reached_at, course.reached_lsn = report.reached_at, report.reached_lsn
        course.figures["wal_segments"] = report.segments
        with _alive(directory):
            with course.phase("first_query"):
                server = _first_query(settings, report)
            course.first_query()
            yield server
            with server.connect() as connection:
                connection.execute("select 1")
    finally:
        private.stop(directory)


def _first_query(settings: Settings, report: RestoreReport) -> Server:
    """Of a table of production, by the role that owns it."""
    running = Running(
        report.directory,
        private.socket_of(report.directory),
        settings.postgres.user,
        settings.postgres.database,
    )
    with running.connect() as connection:
        row = connection.execute(
            "select max(beat_at) from system.heartbeats where source = %s", (heartbeat.SOURCE,)
        ).fetchone()
        superuser = connection.execute(_SUPERUSER).fetchone()
    assert row is not None  # noqa: S101
    if superuser is None:
        raise Mismatch(
            "nobody may check the restored server",
            expected="a superuser that may log in",
            found="none",
            next="in production: alter role postgres login",
        )
    return Server(running, superuser[0], report, row[0])


@contextmanager
def _alive(directory: Path) -> Iterator[None]:
    """That it came up once proves little: it has to answer until the end."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise Mismatch(
            "the restored server ended while it was asked",
            expected="an answer to every query until the end of the drill",
            found=f"{str(error).strip().splitlines()[0]}; its last words: {private.last_words(directory)}",
            next="restore it by hand and read its log: bilten restore postgres --to DIR --start",
        ) from None


def _told_apart(phases: dict[str, float], told: Phases) -> dict[str, float]:
    """The fetch as download and decrypt, the start as start and replay, each in its place."""
    found: dict[str, float] = {}
    for name, seconds in phases.items():
        if name == "fetch":
            share = told.download_seconds / told.fetch_seconds if told.fetch_seconds else 1.0
            found["download"], found["decrypt"] = seconds * share, seconds * (1 - share)
        elif name == "start":
            replay = min(told.replay_seconds or 0.0, seconds)
            found["start"], found["replay"] = seconds - replay, replay
        else:
            found[name] = seconds
    return found
