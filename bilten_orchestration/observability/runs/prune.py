"""Old runs removed with their events and logs, after a preview.

 1  a run that is not over stays, whatever its age
 2  one that changed within BILTEN_DAGSTER__KEEP_RUNS_DAYS stays
 3  the newest ten of each job stay
 4  what holds the newest materialization or observation of an asset, or of one of its partitions, stays:
    without it Dagster would call them never made
 5  the same of the newest evaluation of a check
 6  runs of a backfill that is not over stay
 7  what a backup that has not expired, a drill, an ended partition or a search index names stays
 8  the others go, oldest first, at most BILTEN_DAGSTER__PRUNE_RUNS in a call
 9  nothing goes where runs were made on fewer than three days of the last seven: the clock jumped, or the
    storage is of the past (a restore), or Dagster was off for long; it goes on by itself after three days

A catalogue of backups that cannot be read or believed refuses the whole. Under a lock of its own; what
becomes the newest meanwhile only makes others needless. By hundreds of runs go, in this order: what their
steps printed (bucket and disk), evaluations of checks, and then run by run its events and itself, by the
`delete_run` of Dagster. A kill

 10 before or within the logs leaves a run with a part of its logs
 11 after the logs one without logs
 12 after the evaluations one without them; the newest of each check is another run's, by 5
 13 after the events one without events

and each of them is still a run that is over: the next call finds it again and removes what is left. Dagster's
`delete_run` alone would remove the run first, and a kill then leaves events that no run leads to.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.errors import Refused
from bilten_orchestration.local import dagster_instance
from bilten_orchestration.local.dagster_services import COMPUTE_LOGS
from bilten_orchestration.local.layout import layout
from bilten_orchestration.observability.runs import evidence
from bilten_orchestration.observability.runs.evidence import Over, Reason
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import LET_GO_SECONDS, advisory_lock
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from dagster import DagsterInstance

LOCK: Final = "dagster-runs"
NAME: Final = "bilten runs"
WEEK: Final = timedelta(days=7)
DAYS_WITH_RUNS: Final = 3
_AT_ONCE: Final = 100  # check evaluations have no index by run


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run that goes; `updated_at` (UTC) is when it ended."""

    run_id: str
    job: str
    status: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PruneReport:
    """`runs` are all in the storage before the call, `young` those that rule 2 keeps; `kept` counts the old
    ones that stay, by reason. `going` go; with `executed` they are gone. `left_over`: old ones that the limit
    of a call leaves for the next. `bytes` is Dagster's database after the call."""

    cutoff: datetime | None
    runs: int
    young: int
    kept: Mapping[Reason, int]
    going: tuple[OldRun, ...]
    left_over: int
    events: int
    log_objects: int
    bytes: int
    executed: bool


def prune(settings: Settings, *, execute: bool = False, progress: Progress = silent) -> PruneReport:
    """Raises Refused by rule 9 and without the key file, Mismatch for a catalogue that cannot be believed,
    LockHeld (with `execute`), StoreUnavailable, AccessRefused."""
    if not dagster_instance.is_there(settings, NAME):
        return PruneReport(None, 0, 0, {}, (), 0, 0, 0, 0, execute)
    with (
        postgres.connect(settings.postgres, application_name=NAME, autocommit=True) as ours,
        postgres.connect(settings.postgres, "dagster", application_name=NAME, autocommit=True) as theirs,
        translated("Dagster's storage"),
        _alone(ours, execute),
    ):
        now = postgres.clock(theirs)
        cutoff = now - timedelta(days=settings.dagster.keep_runs_days)
        runs, young = evidence.counts(theirs, cutoff)
        plan = _Plan(settings, ours, theirs, cutoff)
        pages = list(plan.pages())
        going = [run for page in pages for run in page]
        if going:
            _refuse_a_storage_of_the_past(theirs, now)
        events = _events(theirs, going)
        objects = _remove(settings, theirs, going, progress) if execute and going else 0
        return PruneReport(
            cutoff,
            runs,
            young,
            dict(plan.kept),
            tuple(OldRun(run.run_id, run.job, run.status, run.updated_at) for run in going),
            plan.left_over,
            events,
            objects,
            _bytes(theirs),
            execute,
        )


@contextmanager
def _alone(connection: Connection, execute: bool) -> Iterator[None]:
    if not execute:
        yield
        return
    with advisory_lock(connection, LOCK, wait_seconds=LET_GO_SECONDS):
        yield


class _Plan:
    """What goes, page by page; what stays is counted."""

    def __init__(self, settings: Settings, ours: Connection, theirs: Connection, cutoff: datetime) -> None:
        self._settings, self._ours, self._theirs, self._cutoff = settings, ours, theirs, cutoff
        self.kept: Counter[Reason] = Counter()
        self.left_over = 0

    def pages(self) -> Iterator[Sequence[Over]]:
        newest = evidence.newest_of_jobs(self._theirs)
        named: frozenset[str] | None = None
        room, after = self._settings.dagster.prune_runs, 0
        while page := evidence.over(self._theirs, self._cutoff, newest, after):
            after = page[-1].number
            if named is None:
                named = evidence.named_by_records(self._ours) | evidence.named_by_backups(self._settings)
            needed = evidence.needed(self._theirs, page, named)
            self.kept.update(needed.values())
            goes = [run for run in page if run.run_id not in needed]
            self.left_over += max(0, len(goes) - room)
            goes = goes[:room]
            room -= len(goes)
            yield goes


def _refuse_a_storage_of_the_past(connection: Connection, now: datetime) -> None:
    days = evidence.days_with_runs(connection, now - WEEK)
    if days < DAYS_WITH_RUNS:
        raise Refused(
            "no run is removed: hardly any was made lately, so a clock jumped, Dagster's storage is of the"
            " past, or Dagster was off",
            expected=f"runs on {DAYS_WITH_RUNS} of the {WEEK.days} days before {now:%F %T} UTC",
            found=f"on {days}",
            next="compare the clocks; where Dagster was off it goes on by itself after three days",
        )


def _events(connection: Connection, going: Sequence[Over]) -> int:
    total = 0
    for start in range(0, len(going), evidence.PAGE):
        ids = [run.run_id for run in going[start : start + evidence.PAGE]]
        row = connection.execute("select count(*) from event_logs where run_id = any(%s)", (ids,)).fetchone()
        total += row[0] if row else 0
    return total


def _bytes(connection: Connection) -> int:
    row = connection.execute("select pg_database_size(current_database())").fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def _remove(settings: Settings, theirs: Connection, going: Sequence[Over], progress: Progress) -> int:
    """Objects of logs that went."""
    from bilten_orchestration.stores.object_store import connect

    objects = 0
    with ExitStack() as opened:
        instance = opened.enter_context(dagster_instance.opened(settings, NAME))
        assert instance is not None  # noqa: S101 (its tables were read above)
        client = opened.enter_context(closing(connect(settings.object_store, progress=progress)))
        bucket = Repository(client, settings.object_store.bucket_dagster)
        for start in range(0, len(going), _AT_ONCE):
            ids = [run.run_id for run in going[start : start + _AT_ONCE]]
            objects += sum(_logs(settings, bucket, run_id) for run_id in ids)
            theirs.execute("delete from asset_check_executions where run_id = any(%s)", (ids,))
            for run_id in ids:
                _run(instance, run_id)
            progress(f"{start + len(ids)} of {len(going)} runs removed")
    return objects


def _logs(settings: Settings, bucket: Repository, run_id: str) -> int:
    """What its steps printed: objects in the bucket, and what is left on this machine."""
    names = [each.name for each in bucket.list(f"{COMPUTE_LOGS}/storage/{run_id}/")]
    for name in names:
        bucket.remove(name)
    local = layout(settings.home).dagster_home / COMPUTE_LOGS / run_id
    if local.is_dir():
        shutil.rmtree(local)
    return len(names)


def _run(instance: DagsterInstance, run_id: str) -> None:
    instance.event_log_storage.delete_events(run_id)
    instance.delete_run(run_id)
