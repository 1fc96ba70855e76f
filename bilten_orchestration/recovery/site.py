"""Lost stores brought back from a bucket: `bilten recover site`.

Before the first of them the repository's own records go back into the first bucket, where it is not the one
that is restored from (site_records.py). Phases, in this order; one that came to its good end is in
recover-site.json (site_state.py), and the next call goes on behind it. What a kill in each of them leaves:

    postgres     objects of WAL from the spool of this machine (site_spool.py), whole ones, which the next
                 call finds; <directory>.restoring, removed by the next call; <directory> itself is a whole
                 one. Where it is moved away before the next phase is done, it is restored again
    epoch        a server on a private socket, ended by the next call. It was proven to hold the last record
                 that is stored before the restore's id, which is chosen before, is written, once: the sync
                 knows by it that marks belong to another past, and sweeps ClickHouse down to it. Dagster's
                 runs that nobody serves are canceled here, before a daemon could take them for its own: some
                 are, the others by the next call
    redis        redis.recovered, removed by the next call; a directory of its name is a whole one, and says
                 which recovery put it there, from which backup
    servers      servers that run, or do not: they are started again
    clickhouse   tables that are empty, or hold some rows: the next call drops the databases of the platform,
                 which were seen to hold no table before this phase began, and restores again
    files        objects that are whole; those that are there are not copied again. While something is wrong
                 with one the phase is not done: every call says so again, until --store leaves files out
    settled      repeated as a whole: it reads what is there (settled.py). The journal's end is written before
                 the file is removed, so a kill between them repeats this too

A call that fails before it brought anything back forgets that it began: a damaged backup, a bucket that is
away. Later ones go on with what is left, from what they name for it (site_state.py). Nothing is restored over
files or rows that this recovery has not put there itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import BiltenError, Problem, Refused, UsageError
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.recovery import journal, site_phases, site_records, site_state
from bilten_orchestration.recovery.dagster_runs import Unserved
from bilten_orchestration.recovery.settled import SettledReport, settle
from bilten_orchestration.recovery.site_plan import SitePlan, plan
from bilten_orchestration.recovery.site_sources import LOST, Lost
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
    lost: Sequence[Lost] | None = None,
    *,
    bucket: Bucket | None = None,
    named: Mapping[Lost, str] = MappingProxyType({}),
    until: str | None = None,
    execute: bool = False,
    make_way: Callable[[], object] = lambda: None,
    start: Start,
    outside: Sequence[str] = (),
    rebuild: bool = True,
    progress: Progress = silent,
) -> SiteReport:
    """Bring back `lost` stores (None: all of them, or those that are left of what was begun) from a bucket
    (None: the second, or the one that was begun with), from `named` backups or the newest, PostgreSQL `until`
    a moment or to the end of WAL. Without `execute` the plan alone, whose problems are what stands in the
    way.
    `make_way` stops what runs, once nothing stands in the way of the plan. `outside` are stores with an
    address: what is theirs to be done by hand is a problem of the plan.

    Raises UsageError, Refused (the plan's problems, or options that contradict what was begun), LockHeld, and
    what the restores, the sync and the build raise.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.home / "recover-site.lock", "recover site", progress, wait_seconds=0):
        state, resumed = _begun(settings, lost, bucket, named, until, progress)
        found = plan(
            settings,
            [each for each in LOST if each in state.left],
            bucket=site_phases.bucket_of(state),
            begun=state.lost if resumed else (),
            named=state.named,
            until=state.until,
            outside=outside,
            progress=progress,
        )
        if not execute:
            return SiteReport(found, False, None, state.done, {}, None, found.problems)
        if found.problems:
            raise Refused(found.problems)
        chosen = {str(each.store): each.backup_id for each in found.stores if each.backup_id is not None}
        state = site_state.chosen(settings, state, chosen)
        make_way()
        return _Course(settings, state, found, start, rebuild, progress).run()


def _begun(
    settings: Settings,
    lost: Sequence[Lost] | None,
    bucket: Bucket | None,
    named: Mapping[Lost, str],
    until: str | None,
    progress: Progress,
) -> tuple[SiteState, bool]:
    """The recovery that is under way, by what this call says of it, or a new one; whether it was begun."""
    state = site_state.read(settings)
    wanted = lost if lost is not None or state is None else state.lost
    unknown = [store for store in named if store not in (LOST if wanted is None else wanted)]
    if unknown or "files" in named:
        raise UsageError(
            "a backup is named of a store that is not brought back from one",
            expected=f"one of {', '.join(each for each in wanted or LOST if each != 'files')}",
            found=", ".join(named),
        )
    told = {str(store): backup for store, backup in named.items()}
    if state is None:
        stores = LOST if lost is None else [each for each in LOST if each in lost]
        return site_state.new(bucket or "copy", tuple(stores), told, until), False
    if "epoch" not in state.done and site_phases.is_gone(settings, "postgres"):
        state = site_state.undone(state, "postgres")
    state = site_state.adjusted(state, lost, bucket, told, until)
    done = ", ".join(state.done) or "nothing"
    progress(f"going on with the recovery begun {state.begun_at}: {done} done")
    return state, True


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
        self._records()
        entry = self._begin()
        try:
            return self._run(entry)
        except BiltenError:
            if not set(self.state.done) - {"servers"}:
                # nothing was brought back: the next call begins anew, from whatever it names
                try:
                    self._end(entry, "nothing")
                except BiltenError as error:
                    # what ended this is told; the entry of one that brought nothing back stays without an end
                    self._progress(f"the journal's entry is not ended: {error.problems[0].what}")
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
        self._problems += self._records()  # for a first bucket that came with the servers
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

    def _phase(self, name: str, work: Callable[[], Sequence[Problem] | None]) -> None:
        if name in self.state.done:
            return
        self._progress(name)
        began = time.monotonic()
        problems = work() or ()
        if not problems:
            self.state = site_state.advance(self.settings, self.state, name)
        self._problems += problems
        self._seconds[name] = round(time.monotonic() - began, 2)

    def _postgres(self) -> None:
        self.state = site_phases.postgres(self.settings, self.state, self._progress)

    def _epoch(self) -> None:
        self.state, self._canceled = site_phases.epoch(self.settings, self.state, self._progress)

    def _redis(self) -> None:
        site_phases.redis(self.settings, self.state, self._progress)

    def _clickhouse(self) -> None:
        self.state = site_phases.clickhouse(self.settings, self.state, self._progress)

    def _files(self) -> tuple[Problem, ...]:
        return site_phases.files(self.settings, self._progress)

    def _records(self) -> tuple[Problem, ...]:
        if self.state.bucket == "first":
            return ()
        try:
            return site_records.copy_back(self.settings, self._progress).problems
        except BiltenError as error:
            (problem, *_) = error.problems
            self._progress(f"drills and journal are not in the first bucket yet: {problem.what}")
            what = "what drills proved, and the journal, are not back in the first bucket"
            next = "make the bucket, or see why it does not answer; then this command again"
            return (Problem(what, problem.expected, f"{problem.what}: {problem.found}", next),)

    # -- the journal in the repository: the first bucket may be gone with the site ------------------

    def _begin(self) -> str | None:
        from uuid import UUID

        try:
            with ExitStack() as stack:
                opened = stack.enter_context(Opened.of(self.settings, new=False, patience_seconds=2))
                unread: list[Problem] = []
                entries = journal.read(opened, unread)
                for problem in unread:
                    self._progress(f"the journal is not read whole: {problem.what}")
                for entry in entries:
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
