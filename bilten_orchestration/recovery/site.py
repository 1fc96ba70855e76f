"""Lost stores brought back from a bucket: `bilten recover site`.

Phases, in this order; one that came to its good end is in recover-site.json (site_state.py), and the next
call goes on behind it. What a kill in each of them leaves:

    postgres     <directory>.restoring, removed by the next call; <directory> itself is a whole one. Where it
                 is moved away before the next phase is done, it is restored again
    epoch        a server on a private socket, ended by the next call. It was proven to hold the last record
                 that is stored before the restore's id, which is chosen before, is written, once: the sync
                 knows by it that marks belong to another past, and sweeps ClickHouse down to it. Dagster's
                 runs that nobody serves are canceled here, before a daemon could take them for its own: some
                 are, the others by the next call
    redis        redis.recovered, removed by the next call; a directory of its name is a whole one, and says
                 which recovery put it there
    servers      servers that run, or do not: they are started again
    clickhouse   tables that are empty, or hold some rows: the next call drops the databases of the platform,
                 which were seen to hold no table before this phase began, and restores again
    files        objects that are whole; those that are there are not copied again
    settled      repeated as a whole: it reads what is there (settled.py). The journal's end is written before
                 the file is removed, so a kill between them repeats this too

A call that is refused before it brought anything back forgets that it began. Nothing is restored over files
or rows that this recovery has not put there itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import BiltenError, Problem, Refused
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.recovery import journal, site_phases, site_state
from bilten_orchestration.recovery.dagster_runs import Unserved
from bilten_orchestration.recovery.settled import SettledReport, settle
from bilten_orchestration.recovery.site_plan import LOST, Lost, SitePlan, plan
from bilten_orchestration.recovery.site_state import SiteState
from bilten_orchestration.settings import Settings

#: Starts what has no address of its own, waits until it answers, and tells the addresses.
Start = Callable[[Settings], Settings]


@dataclass(frozen=True, slots=True)
class SiteReport:
    """`resumed` are phases that an earlier call had done, `done` those of this one, with their seconds;
    `canceled` Dagster's runs that this one has ended. `reached_at` is the last commit that PostgreSQL came
    back with (UTC), None where it was not lost, or had none behind its backup."""

    plan: SitePlan
    executed: bool
    recovery: str | None
    resumed: tuple[str, ...]
    done: dict[str, float]
    settled: SettledReport | None
    problems: tuple[Problem, ...]
    canceled: tuple[Unserved, ...] = ()
    reached_at: datetime | None = None


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
            lost, bucket = tuple(each for each in LOST if each in state.lost), site_phases.bucket_of(state)
            if "epoch" not in state.done and site_phases.is_gone(settings, "postgres"):
                state = site_state.undone(settings, state, "postgres")
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
        self._canceled: tuple[Unserved, ...] = ()

    def run(self) -> SiteReport:
        entry = self._begin()
        try:
            return self._run(entry)
        except Refused:
            if not set(self.state.done) - {"servers"}:
                # nothing was brought back: the next call may be for other stores
                self._end(entry, "nothing")
                site_state.forget(self.settings)
            raise

    def _run(self, entry: str | None) -> SiteReport:
        lost = self.state.lost
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
            self._end(entry, "done")
            site_state.forget(self.settings)
        return SiteReport(
            self.plan,
            True,
            self.state.id,
            self._resumed,
            self._seconds,
            self._settled,
            tuple(problems),
            self._canceled,
            None if self.state.reached_at is None else datetime.fromisoformat(self.state.reached_at),
        )

    def _phase(self, name: str, work: Callable[[], None]) -> None:
        if name in self.state.done:
            return
        self._progress(name)
        began = time.monotonic()
        work()
        self.state = site_state.advance(self.settings, self.state, name)
        self._seconds[name] = round(time.monotonic() - began, 2)

    def _postgres(self) -> None:
        site_phases.postgres(self.settings, self.state, self._progress)

    def _epoch(self) -> None:
        self.state, self._canceled = site_phases.epoch(self.settings, self.state, self._progress)

    def _redis(self) -> None:
        site_phases.redis(self.settings, self.state, self._progress)

    def _clickhouse(self) -> None:
        self.state = site_phases.clickhouse(self.settings, self.state, self._progress)

    def _files(self) -> None:
        self._problems += site_phases.files(self.settings, self._progress)

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
        if entry is None:
            return
        with Opened.of(self.settings, new=False) as opened:
            journal.end(opened, entry, outcome)
