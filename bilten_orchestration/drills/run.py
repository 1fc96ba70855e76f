"""One drill of a store, from the order to the attestation: the one door for Dagster and the command line.

    1. the store's drills are locked (place and advisory lock); what a killed one left is ended, removed and
       told; its row is closed, and attested as one that failed
    2. the ways that are due are found in the chain of attestations
    3. for each way: clocks are compared, and what would be lost now is asked; a row is begun; it is walked
       in the scratch place, which is emptied whatever happens; the report is attested; the backups that it
       used are marked `drilled` if it passed; the row is ended

What a kill leaves: at 3 a row without an end, servers that die with us or that the next drill ends, and
files that it removes (of search an index as well: search.py). After the attestation the row and the marks are
missing: the next drill writes them from it. While PostgreSQL is down there are no rows, and those of attested
drills follow later; what a kill leaves then is the scratch place alone.

A way that fails does not keep the others from being walked. Production is only read, except for the heartbeat
and the temporary slot of PostgreSQL's drill. OpenSearch holds an index of the drill's own meanwhile.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import date, timedelta

from bilten_orchestration.backups import lock, scratch
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import clocks, plan
from bilten_orchestration.drills.held import Held
from bilten_orchestration.drills.plan import Way
from bilten_orchestration.drills.record import Record
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.errors import Refused, UsageError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch


def run(
    settings: Settings,
    store: str,
    *,
    way: str | None = None,
    day: date | None = None,
    run: str | None = None,
    progress: Progress = silent,
) -> tuple[DrillReport, ...]:
    """Walk the ways that are due (or one, `way`), each to its report: also one that failed has one.

    `day` is Dagster's partition, `run` its run. Raises UsageError (no such store or way), Refused (search
    where it is off; a day that is not now: what there was then cannot be drilled any more), LockHeld (another
    drill of this store), and what the repository raises, without which nothing could be attested.
    """
    ways = _wanted(store, way)
    _refuse_without_search(settings, ways[0].store)
    _refuse_another_day(day, clocks.here().date())
    of_store = ways[0].store
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        place = stack.enter_context(
            scratch.place(settings, f"drill-{of_store}", f"drill run {of_store}", progress)
        )
        stack.enter_context(
            lock.while_postgres_answers(
                settings,
                f"drill:{of_store}",
                wait_seconds=settings.backups.lock_wait_seconds,
                waiting_for="another drill",
                away="the lock holds on this machine alone, and rows of this drill follow later",
                progress=progress,
            )
        )
        opened = stack.enter_context(Opened.of(settings, new=False, progress=progress))
        drills = Held(settings, of_store, place, opened, Record(settings), run, progress)
        drills.remember()
        if way is None:
            ways = plan.due(of_store, drills.walked)
        return tuple(drills.walk(each) for each in ways)


def _wanted(store: str, way: str | None) -> tuple[Way, ...]:
    ways = plan.due(store, {}) if way is None else plan.ways_of(store)
    if way is None:
        return ways
    for each in ways:
        if each.name == way:
            return (each,)
    known = " or ".join(each.name for each in ways) or "a store that has drills"
    raise UsageError(f"there is no way {way!r} back for {store!r}", expected=known, found=way)


def _refuse_without_search(settings: Settings, store: plan.Drilled) -> None:
    if store not in plan.drilled(settings):
        raise Refused(opensearch.off(settings.opensearch))


def _refuse_another_day(day: date | None, today: date) -> None:
    """A run may begin before midnight and be at work after it."""
    if day is not None and not timedelta(0) <= today - day <= timedelta(days=1):
        raise Refused(
            f"{day} cannot be drilled",
            expected=f"{today}: a drill proves what there is now",
            found=str(day),
            next="materialize the partition of today; a day that is gone stays without a drill",
        )
