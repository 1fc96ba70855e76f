"""Lost stores brought back from a bucket: `bilten recover site`.

Phases, in this order; one that came to its good end is in recover-site.json (site_state.py), and the next
call goes on behind it. What a kill in each of them leaves:

    postgres     <directory>.restoring, removed by the next call; <directory> itself is a whole one
    epoch        a server on a private socket, ended by the next call. The restore's id, which is chosen
                 before, is written once: the sync knows by it that marks belong to another past
    redis        redis.recovered, removed by the next call; a directory of its name is a whole one, and says
                 which recovery put it there
    servers      servers that run, or do not: they are started again
    clickhouse   tables that are empty, or hold some rows: the next call drops the databases of the platform,
                 which were seen to hold no table before this phase began, and restores again
    files        objects that are whole; those that are there are not copied again
    settled      repeated as a whole: it reads what is there (settled.py)

Nothing is restored over files or rows that this recovery has not put there itself.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bilten_orchestration.backups.postgres import private, programs
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import BiltenError, Problem, Refused
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.recovery import journal, site_state
from bilten_orchestration.recovery.settled import SettledReport, settle
from bilten_orchestration.recovery.site_plan import LOST, Lost, SitePlan, data_directory, plan
from bilten_orchestration.recovery.site_state import SiteState
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Starts what has no address of its own, waits until it answers, and tells the addresses.
Start = Callable[[Settings], Settings]
_WRITTEN = "# written by `bilten restore`"
_MARK = "bilten_recover_site"
_CLICKHOUSE_BEGUN = "clickhouse begun"
_OURS = ("bilten_wal", "bilten_hba.conf", private.LOG, private.RECORD)


@dataclass(frozen=True, slots=True)
class SiteReport:
    """`resumed` are phases that an earlier call had done, `done` those of this one, with their seconds."""

    plan: SitePlan
    executed: bool
    recovery: str | None
    resumed: tuple[str, ...]
    done: dict[str, float]
    settled: SettledReport | None
    problems: tuple[Problem, ...]


def recover(
    settings: Settings,
    lost: Sequence[Lost] = LOST,
    *,
    bucket: Bucket = "copy",
    execute: bool = False,
    make_way: Callable[[], object] = lambda: None,
    start: Start,
    outside: Sequence[str] = (),
    rebuild: bool = True,
    progress: Progress = silent,
) -> SiteReport:
    """Bring back `lost` stores. Without `execute` the plan alone, whose problems are what stands in the way.
    `make_way` stops what runs, once nothing stands in the way of the plan. `outside` are stores with an
    address: what is theirs to be done by hand is a problem of the plan.

    Raises Refused (the plan's problems), LockHeld, and what the restores, the sync and the build raise.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.home / "recover-site.lock", "recover site", progress, wait_seconds=0):
        state = site_state.read(settings)
        if state is not None:
            lost, bucket = tuple(each for each in LOST if each in state.lost), _bucket(state)
            done = ", ".join(state.done) or "nothing"
            progress(f"going on with the recovery begun {state.begun_at}: {done} done")
        found = plan(settings, lost, bucket=bucket, done=_restored(state), outside=outside, progress=progress)
        if not execute or found.problems:
            if execute:
                raise Refused(found.problems)
            return SiteReport(found, False, None, state.done if state else (), {}, None, found.problems)
        if state is None:
            backups = {str(each.store): each.backup_id for each in found.stores if each.backup_id is not None}
            state = site_state.begin(settings, bucket, tuple(lost), backups)
        make_way()
        return _Course(settings, state, found, start, rebuild, progress).run()


def _restored(state: SiteState | None) -> tuple[str, ...]:
    """Stores whose directories are no longer expected to be empty: they were when this recovery began, and
    each phase looks at what it finds before it takes it for its own."""
    return () if state is None else state.lost


def _bucket(state: SiteState) -> Bucket:
    return "first" if state.bucket == "first" else "copy"


class _Course:
    """One call of it: how far it has come."""

    def __init__(
        self,
        settings: Settings,
        state: SiteState,
        plan: SitePlan,
        start: Start,
        rebuild: bool,
        progress: Progress,
    ) -> None:
        self.settings, self.state, self.plan = settings, state, plan
        self._start, self._rebuild, self._progress = start, rebuild, progress
        self._resumed = state.done
        self._seconds: dict[str, float] = {}
        self._settled: SettledReport | None = None
        self._problems: list[Problem] = []

    def run(self) -> SiteReport:
        lost = self.state.lost
        entry = self._begin()
        if "postgres" in lost:
            self._phase("postgres", self._postgres)
            self._phase("epoch", self._epoch)
        if "redis" in lost:
            self._phase("redis", self._redis)
        # started by every call: what ran may have ended since
        began = time.monotonic()
        self._progress("servers")
        self.settings = self._start(self.settings)
        if "servers" not in self.state.done:
            self.state = site_state.advance(self.settings, self.state, "servers")
        self._seconds["servers"] = round(time.monotonic() - began, 2)
        if "clickhouse" in lost:
            self._phase("clickhouse", self._clickhouse)
        if "files" in lost:
            self._phase("files", self._files)
        began = time.monotonic()
        self._progress("settled")
        self._settled = settle(
            self.settings, accept_epoch=True, rebuild=self._rebuild, progress=self._progress
        )
        self._seconds["settled"] = round(time.monotonic() - began, 2)
        problems = (*self._problems, *self._settled.problems)
        if not problems:
            site_state.forget(self.settings)
        self._end(entry, "done" if not problems else "unfinished")
        return SiteReport(
            self.plan, True, self.state.id, self._resumed, self._seconds, self._settled, tuple(problems)
        )

    def _phase(self, name: str, work: Callable[[], None]) -> None:
        if name in self.state.done:
            return
        self._progress(name)
        began = time.monotonic()
        work()
        self.state = site_state.advance(self.settings, self.state, name)
        self._seconds[name] = round(time.monotonic() - began, 2)

    @property
    def _data(self) -> Path:
        data = data_directory(self.settings)
        data.mkdir(mode=0o711, exist_ok=True)
        return data

    def _postgres(self) -> None:
        from bilten_orchestration.backups.postgres.restore import restore
        from bilten_orchestration.backups.postgres.targets import Target

        directory = self._data / "postgres"
        if (directory / "bilten_wal").exists():
            return  # whole, and killed before that was written down
        restore(
            self.settings, Target("latest"), directory, bucket=_bucket(self.state), progress=self._progress
        )

    def _epoch(self) -> None:
        directory = self._data / "postgres"
        if (directory / private.RECORD).exists():
            private.stop(directory)  # left by a call that was killed
        bin_directory = programs.directory(
            self.settings.postgres, int((directory / "PG_VERSION").read_text())
        )
        running = private.start(
            directory,
            bin_directory,
            self.settings.postgres,
            private.owner_of(directory),
            self._progress,
        )
        try:
            with running.connect() as connection:
                connection.execute(
                    "insert into system.restores (id, reason) values (%s, %s) on conflict (id) do nothing",
                    (self.state.id, f"bilten recover site, from {self.state.backups['postgres']}"),
                )
        finally:
            private.stop(directory)
        _tidy(directory)

    def _redis(self) -> None:
        from bilten_orchestration.backups.redis.restore import restore

        directory = self._data / "redis"
        if (mark := directory / _MARK).exists() and mark.read_text() == self.state.id:
            return  # whole, and killed before that was written down
        growing = directory.with_name("redis.recovered")
        shutil.rmtree(growing, ignore_errors=True)
        restore(
            self.settings,
            self.state.backups["redis"],
            growing,
            bucket=_bucket(self.state),
            progress=self._progress,
        )
        (growing / _MARK).write_text(self.state.id)
        try:
            growing.rename(directory)
        except OSError:
            raise Refused(
                f"{directory} is not empty",
                expected="no files: nothing is ever restored over data",
                found="files that came since this recovery began",
                next=f"bilten down; mv {directory} {directory}.other; then this command again",
            ) from None

    def _clickhouse(self) -> None:
        from bilten_orchestration.backups.clickhouse import server
        from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
        from bilten_orchestration.stores import clickhouse

        client = clickhouse.connect(self.settings.clickhouse)
        try:
            if _CLICKHOUSE_BEGUN not in self.state.done:
                _refuse_tables(client, server.DATABASES)
                self.state = site_state.advance(self.settings, self.state, _CLICKHOUSE_BEGUN)
            for database in server.DATABASES:
                client.command(f"drop database if exists `{database}` sync")
        finally:
            client.close()
        restore(
            self.settings,
            self.state.backups["clickhouse"],
            Wanted(bucket=_bucket(self.state)),
            by="bilten recover site",
            progress=self._progress,
        )

    def _files(self) -> None:
        from bilten_orchestration.recovery import site_files

        report = site_files.copy_back(self.settings, self._progress)
        self._progress(f"{report.copied:,} files copied back, {report.present:,} were there")
        self._problems += report.problems

    # -- the journal in the repository: the first bucket may be gone with the site ------------------

    def _begin(self) -> str | None:
        from uuid import UUID

        try:
            with ExitStack() as stack:
                opened = stack.enter_context(Opened.of(self.settings, new=False, patience_seconds=2))
                for entry in journal.read(opened):
                    if str(entry.id) == self.state.id:
                        return entry.name
                return journal.begin(
                    opened,
                    UUID(self.state.id),
                    {
                        "what": "site",
                        "at": self.state.begun_at,
                        "bucket": self.state.bucket,
                        "backups": self.state.backups,
                    },
                )
        except BiltenError as error:
            self._progress(f"the first bucket takes no entry of the journal: {error.problems[0].what}")
            return None

    def _end(self, entry: str | None, outcome: str) -> None:
        if entry is None or outcome != "done":
            return
        with Opened.of(self.settings, new=False) as opened:
            journal.end(opened, entry, outcome)


def _refuse_tables(client: Client, databases: Sequence[str]) -> None:
    found = client.query(
        "select database, count() from system.tables where database in {names:Array(String)}"
        " group by database order by database",
        {"names": list(databases)},
    ).result_rows
    if found:
        raise Refused(
            "the ClickHouse that is to be filled is not empty",
            expected="no table of the platform: nothing is ever restored over data",
            found=", ".join(f"{number} in {name}" for name, number in found),
            next="if it is not lost, leave it out: --store; else drop these databases",
        )


def _tidy(directory: Path) -> None:
    """What the restore told the server is over: behind its promotion it is as any other."""
    automatic = directory / "postgresql.auto.conf"
    automatic.write_text(automatic.read_text().partition(_WRITTEN)[0])
    for name in _OURS:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
