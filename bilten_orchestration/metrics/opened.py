"""An open build: everything before dbt (`open_build`) and after it (`Build.close`).

Who runs dbt in between is left open: metrics/build.py for the command line, metrics/assets.py for Dagster.
The steps, and what a kill leaves behind at each:

 1. days are checked, the manifest is prepared            nothing
 2. locks: `build:marts` exclusive, `sync` shared         nothing: session locks end with the process
 3. the batch and the dirty generations are read          nothing
 4. dead builds in the journal are settled                their rows ended or still open: the next build
                                                          settles them again, from analytics.mart_days
 5. leftover build tables are dropped                     fewer of them
 6. the journal says `planned`                            rows of a dead build: resumed or abandoned by 4
 7. dbt makes views below the marts, if any is missing    some of them; made again
 8. dbt builds intermediate.int_<x>__build_<id>, then
    marts.<mart>__build_<id>                              tables that nobody reads; dropped by 5
 9. gates write analytics.mart_verdicts                   verdicts that the next attempt deletes first (dbt)
10. a swap, day by day: restatements, then the partition, then analytics.mart_days
      after the restatements                              written again under the same id: they replace these
      after the partition                                 the day is published; the next attempt finds it
                                                          unchanged and writes its mart_days
      after mart_days                                     the day has ended; 4 reads it from there
11. the journal ends, dirty days are marked built         in one transaction: both or neither
12. build tables are dropped                              tables that 5 drops

dbt dies with us (dbt_child.py); a statement of it that the server still runs is awaited in step 5, before
the same id is used again. A build of the same days as a dead one goes on under the dead one's id, with
the days that had not ended or whose facts have changed since; any other build abandons what was open.
A dirty day is clean when every published day in its reach shows the batch that touched it (late.py), and
only up to the generation seen in step 3.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Mismatch, Problem, Refused, TransientError, UsageError
from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics import (
    dbt_call,
    dirty,
    evidence,
    journal,
    late,
    leftovers,
    manifest,
    resume,
    verdicts,
    whole,
)
from bilten_orchestration.metrics.dbt_call import DbtCall, NodeResult
from bilten_orchestration.metrics.evidence import Batch
from bilten_orchestration.metrics.late import DirtyDay
from bilten_orchestration.metrics.locks import LockWatch, build_locks
from bilten_orchestration.metrics.manifest import Mart
from bilten_orchestration.metrics.report import BuildReport, BuiltDay
from bilten_orchestration.metrics.resume import Start
from bilten_orchestration.metrics.verdicts import MartDay
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@dataclass(slots=True)
class Build:
    """An open build: locks are held, the journal says what is planned. Run `call`, then `close`."""

    settings: Settings
    start: Start
    batch: Batch
    marts: tuple[Mart, ...]
    all_marts: tuple[Mart, ...]
    days: tuple[date, ...]
    dirty: Sequence[DirtyDay]
    views: Sequence[str]
    now: datetime
    connection: Connection
    client: Client
    watch: LockWatch
    started: float

    @property
    def build_id(self) -> str:
        return self.start.build_id

    @property
    def pending(self) -> tuple[date, ...]:
        """The days that dbt has to build: all, or those that a killed build had left."""
        return self.start.pending

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the dbt run."""
        return {
            "build_id": self.build_id,
            "days": [str(day) for day in self.pending],
            "batch": self.batch.number,
            "as_of": f"{self.batch.as_of:%Y-%m-%d %H:%M:%S.%f}",
            "settled_until": f"{self.batch.settled_until:%Y-%m-%d %H:%M:%S.%f}",
            "reasons": {str(day): reason for day, reason in self._reasons().items()},
        }

    @property
    def target(self) -> Path:
        """Where dbt's artifacts of this build lie."""
        return dbt_call.runs_directory(self.settings) / self.build_id

    def call(self) -> DbtCall:
        """The dbt command for the pending days."""
        if self.marts == self.all_marts:
            selection = [f"tag:{manifest.DAILY}"]
        else:
            # builds and their gates read each other: all are built, only these marts are published
            builds = [mart.name + manifest.BUILD_SUFFIX for mart in self.all_marts]
            selection = [f"+{build},tag:{manifest.DAILY}" for build in builds]
            selection += [mart.name for mart in self.marts]
        return dbt_call.call(
            self.settings,
            self.build_id,
            "build",
            "--select",
            *selection,
            *self.views,
            "--exclude-resource-type",
            "unit_test",
            variables=self.variables,
            parsed=manifest.parsed(self.settings),
        )

    def close(self, said: Sequence[str] = ()) -> BuildReport:
        """Read back what happened, end the journal, mark dirty days built, drop build tables.

        `said` are errors that dbt logged, for a run that came to no results.

        Raises Mismatch (or TransientError, by dbt's words) when a planned day has come to no end: the
        journal keeps it open, and the same build goes on with it.
        """
        self.watch.check()
        names = [mart.name for mart in self.marts]
        outcomes = verdicts.mart_days(self.client, names, days=self.days, run_id=self.build_id)
        results = dbt_call.results(self.target)
        self._refuse_missing(outcomes, results, said)
        if self.views and not any(node.broke for node in results):
            whole.views_made(self.settings)
        refused = [outcome for outcome in outcomes if outcome.verdict == "refused"]
        refusals = verdicts.refusals(
            refused,
            verdicts.judged(self.client, self.build_id, failed_only=False),
            {mart.name: mart.gates for mart in self.marts},
        )
        left = self._settle(outcomes, refusals)
        leftovers.drop_build_tables(self.client)
        restated = verdicts.restatements(self.client, self.build_id)
        by_id = {mart.unique_id: mart.name for mart in self.marts}
        return BuildReport(
            build_id=self.build_id,
            batch=self.batch.number,
            as_of=self.batch.as_of,
            settled_until=self.batch.settled_until,
            seconds=time.monotonic() - self.started,
            resumed=self.start.resumed,
            days=tuple(
                BuiltDay(
                    found.day,
                    found.mart,
                    found.verdict,
                    found.rows,
                    found.is_final,
                    restated.get((found.mart, found.day), 0),
                )
                for found in outcomes
            ),
            refusals=tuple(refusals),
            still_dirty=tuple(left),
            model_seconds={
                by_id[node.unique_id]: node.seconds for node in results if node.unique_id in by_id
            },
            query_ids={
                by_id[node.unique_id]: node.query_id
                for node in results
                if node.unique_id in by_id and node.query_id
            },
        )

    def _settle(self, outcomes: Sequence[MartDay], refusals: Sequence[Problem]) -> list[date]:
        """Step 11; returns the days that stay dirty."""
        details = {
            (found.mart, found.day): "\n".join(
                str(problem)
                for problem in refusals
                if problem.what.startswith(f"{found.mart} of {found.day} ")
            )
            for found in outcomes
            if found.verdict == "refused"
        }
        clean = late.clean_days(self.dirty, verdicts.shown(self.client, self.all_marts))
        with self.connection.transaction():
            journal.complete(self.connection, self.build_id, outcomes, details)
            dirty.mark_built(self.connection, clean)
        built = set(self.days)
        return [cause.day for cause in self.dirty if cause.day in built and cause not in clean]

    def _refuse_missing(
        self, outcomes: Sequence[MartDay], results: Sequence[NodeResult], said: Sequence[str]
    ) -> None:
        # a day that was to be built again has ended only with this batch
        again = set(self.pending)
        have = {
            (outcome.mart, outcome.day)
            for outcome in outcomes
            if outcome.verdict in verdicts.VERDICTS
            and (
                outcome.day not in again
                or outcome.verdict == "refused"  # keeps the batch that it still shows
                or outcome.batch == self.batch.number
            )
        }
        missing = [
            (mart.name, day) for mart in self.marts for day in self.days if (mart.name, day) not in have
        ]
        if not missing:
            return
        call = DbtCall(("build",), {}, self.target)
        broke = [f"{node.unique_id.split('.')[2]}: {node.message}" for node in results if node.broke] or said
        marts = sorted({mart for mart, _ in missing})
        span = ", ".join(str(found) for found in day_rules.ranges(day for _, day in missing))
        error = dbt_call.broken(f"dbt came to no end for {', '.join(marts)}, days {span}", broke, call)
        if isinstance(error, TransientError):
            raise error
        raise Mismatch(error.problems)

    def _reasons(self) -> dict[date, str]:
        wanted = set(self.pending)
        return {cause.day: cause.reason for cause in self.dirty if cause.day in wanted}


@contextmanager
def open_build(
    settings: Settings,
    days: Sequence[date],
    *,
    run_id: str | None = None,
    marts: Sequence[str] | None = None,
    progress: Progress = silent,
    now: datetime | None = None,
) -> Iterator[Build]:
    """Everything before dbt: checks, locks, journal. Leaves the journal open unless `Build.close` is called.

    `run_id` names a Dagster run ([A-Za-z0-9-_]); `marts` restricts to these (default: all daily ones).
    Raises UsageError, Refused (all reasons at once), LockHeld, StoreUnavailable.
    """
    moment = now or datetime.now(UTC)
    wanted = tuple(sorted(set(days)))
    if not wanted:
        raise UsageError("there are no days to build", expected="at least one day", found="none")
    if problems := evidence.refuse_days(wanted, first=None, now=moment):
        raise Refused(problems)
    started = time.monotonic()
    graph = manifest.read(manifest.prepare(settings, progress=progress))
    all_marts = manifest.marts(graph)
    chosen = _chosen(all_marts, marts)
    name = f"bilten build {run_id[:8]}" if run_id else "bilten build"
    with translated("the build"), ExitStack() as stack:
        connection = stack.enter_context(
            postgres.connect(settings.postgres, "etl", application_name=name, autocommit=True)
        )
        client = clickhouse.connect(settings.clickhouse)
        stack.callback(client.close)
        watch = stack.enter_context(build_locks(connection, settings, progress))
        # the mark of the batch and the generations are committed together, under the lock we hold shared
        batch = evidence.usable_batch(connection, client)
        problems = evidence.refuse_days(wanted, first=batch.first_control_day, now=moment)
        if problems := [*problems, *evidence.refuse_archived(connection, wanted)]:
            raise Refused(problems)
        dirty_before = dirty.dirty_days(connection)
        reach = manifest.reach(all_marts)
        names = [mart.name for mart in chosen]
        start = resume.begin(
            connection,
            client,
            names,
            wanted,
            late.needed_batches(dirty_before, reach),
            run_id or _command_id(moment),
            progress,
            retry_refused=settings.metrics.retry_refused_days,
        )
        if start.pending:
            generations = {cause.day: cause.generation for cause in dirty_before}
            journal.plan(connection, start.build_id, names, start.pending, batch.number, generations)
        yield Build(
            settings=settings,
            start=start,
            batch=batch,
            marts=chosen,
            all_marts=all_marts,
            days=wanted,
            dirty=dirty_before,
            views=whole.views_to_make(settings, client, graph),
            now=moment,
            connection=connection,
            client=client,
            watch=watch,
            started=started,
        )


def _chosen(all_marts: tuple[Mart, ...], names: Sequence[str] | None) -> tuple[Mart, ...]:
    if names is None:
        return all_marts
    known = {mart.name: mart for mart in all_marts}
    if unknown := sorted(set(names) - set(known)):
        raise UsageError(
            f"not a daily mart: {', '.join(unknown)}", expected=", ".join(known), found=", ".join(unknown)
        )
    return tuple(known[name] for name in sorted(set(names)))


def _command_id(moment: datetime) -> str:
    return f"cli_{moment:%Y%m%dt%H%M%S}_{secrets.token_hex(3)}"
