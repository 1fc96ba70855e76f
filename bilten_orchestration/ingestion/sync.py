"""One batch: what is new in PostgreSQL, into ClickHouse, whole or not at all as far as builds can see.

Rows first go to stage tables, which nobody reads. While the rows before are still there, the touched days
are worked out and kept in PostgreSQL. Then the raw tables take the stage's parts; then come clicks on other
days, the days of the control totals, and last the row in analytics.sync_batches. The state in PostgreSQL
(mark, epoch, dirty days) follows in one transaction. PostgreSQL computes the control totals meanwhile,
beside the reading in a whole load, beside the applying else; they are no evidence before their days.

What a kill leaves behind, and why the next call repairs it. The numbers are those in the code.

 1  before the stage: nothing. A batch number is lost; numbers only have to rise.
 2  a column was added in ClickHouse: system.sync_state.rereading names its table, so its rows are
    read again although they did not change.
 3  staged, in part or whole: stage tables, dropped by the next batch. Nothing was applied.
 4  touched days and applying_batch are committed: the days are marked by the next batch as well, at
    worst some too many. Builds refuse to read from here on, until a batch ends whole.
 5  raw tables have some of the batch: builds refuse. The next batch reads from the old mark under a
    higher number, so whatever was moved is moved again and wins. The rows before are gone in part:
    the days are those of 4, and parents are taken for changed when their raw version is above the
    last whole batch. The stage still has what raw took, and is emptied by the next batch. Control totals
    have no days yet, and are nobody's.
 6  clicks were put on other days: their days are in analytics.click_relocations until settled.
 7  control totals or control days without a batch row: they belong to a snapshot whose rows are in,
    but the next batch touches the same days and writes newer ones.
 8  the row in sync_batches is there, PostgreSQL's state is not: the newest batch is applying_batch, or
    below it when the next batch was killed too, which is no disagreement; the next batch repeats
    everything under a higher number.
 9  the state is committed: whole. What is left is the stage, the settled journal of clicks and, now and
    then, control totals that newer ones replaced: all of it is for the next batch to clear.

Inserts that the server had accepted when its client died are harmless in every case: what comes to a stage
table of rows has a lower version than the next batch gives to the same keys, and a batch's control totals
are staged under its own number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date
from typing import TYPE_CHECKING
from uuid import UUID

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.ingestion import (
    clickstream_relocation,
    controls,
    dependents,
    schema,
    source,
    state,
    touched,
)
from bilten_orchestration.ingestion.reconcile import compare
from bilten_orchestration.ingestion.report import Kind, ReconcileReport, SyncReport
from bilten_orchestration.ingestion.schema import TablePlan
from bilten_orchestration.ingestion.source import Fence, Since, Snapshot
from bilten_orchestration.ingestion.staging import Staging
from bilten_orchestration.ingestion.tables import TABLES, SyncedTable
from bilten_orchestration.ingestion.transfer import Reader, clear_stage, empty_stage, take_stage
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import LET_GO_SECONDS, advisory_lock
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def sync(
    settings: Settings,
    *,
    accept_epoch: bool = False,
    full: bool = False,
    reconcile: bool = False,
    control_days: Collection[date] = (),
    progress: Progress = silent,
) -> SyncReport:
    """Apply one batch.

    `full` reads every row again and removes what PostgreSQL does not have. `accept_epoch` does the same
    after a restore, which is refused otherwise. `reconcile` compares everything in the batch's snapshot
    afterwards (the report's `reconciliation`; differences do not raise). `control_days` get fresh
    control totals whether touched or not.

    Raises LockHeld (another sync, or builds that read), Refused (another epoch, with what accepting it
    would change; control days before the metrics begin), Mismatch (columns that differ), StoreUnavailable.
    """
    _refuse_days_without_metrics(control_days, date.fromisoformat(settings.metrics.first_day))
    with translated("the sync"), ExitStack() as stack:
        locks = stack.enter_context(
            postgres.connect(settings.postgres, "etl", application_name="bilten sync", autocommit=True)
        )
        stack.enter_context(advisory_lock(locks, "sync-run", wait_seconds=LET_GO_SECONDS))
        client = clickhouse.connect(settings.clickhouse, "etl")
        stack.callback(client.close)
        return _Batch(settings, locks, client, progress).run(
            accept_epoch=accept_epoch, full=full, reconcile=reconcile, control_days=control_days
        )


def reconcile(settings: Settings, *, progress: Progress = silent) -> ReconcileReport:
    """Apply a batch, then compare every synced table in its snapshot. Differences are in the report."""
    report = sync(settings, reconcile=True, progress=progress).reconciliation
    assert report is not None  # noqa: S101
    return report


def _refuse_days_without_metrics(days: Collection[date], first: date) -> None:
    if early := sorted(day for day in days if day < first):
        raise Refused(
            "control totals are asked for days that have no metrics",
            expected=f"days from {first} on",
            found=f"{len(early)} days, {early[0]} to {early[-1]}",
            next="ask for later days, or set BILTEN_METRICS__FIRST_DAY to an earlier one",
        )


@contextmanager
def _beside(work: Callable[[], object]) -> Iterator[None]:
    """`work` in a thread while the block runs; ended, and its error raised, when the block ends."""
    with ThreadPoolExecutor(1, thread_name_prefix="sync-beside") as pool:
        future = pool.submit(work)
        yield
        future.result()


@dataclass
class _Batch:
    """The run of one batch; `connection` writes state and holds the locks, readers have their own."""

    settings: Settings
    connection: Connection
    client: Client
    progress: Progress

    def run(
        self, *, accept_epoch: bool, full: bool, reconcile: bool, control_days: Collection[date]
    ) -> SyncReport:
        started = time.monotonic()
        held = schema.held(self.client)
        plans = schema.read(self.connection, held)
        epoch = state.read_epoch(self.connection)
        before = state.read(self.connection)
        applied = state.newest_applied(self.client)
        first = applied.number == 0 and self._raw_is_empty()
        disagreements = state.disagreements(before, applied, epoch, raw_is_empty=first)
        # a ClickHouse made anew has nothing to lose; but that it is empty must be said
        if disagreements and not accept_epoch and not (first and full):
            self._refuse(plans, disagreements, lost=first)
        accepted = bool(disagreements)
        whole = first or full or accepted
        kind: Kind = "first" if first else "reconcile" if accepted else "full" if full else "incremental"
        above = max(applied.number, before.batch, before.applying_batch or 0)
        if whole and not first:
            above = max(above, self._newest_raw_version())

        with ExitStack() as stack:
            stack.enter_context(self._lock("sync"))
            batch = state.next_batch(self.connection, above, raise_it=accepted)  # 1
            fence = source.fence(self.connection, self.settings.ingestion.settle_seconds)
            stack.enter_context(self._lock("snapshot", shared=True))
            reading, snapshot = stack.enter_context(source.open_snapshot(self.settings))
            self.progress(f"batch {batch}, {kind}: snapshot of {snapshot.as_of:%F %T} UTC")
            if snapshot.mark < fence.xid:
                self.progress(f"open since before {fence.at:%F %T} UTC: {source.holders(self.connection)}")
            rereading = self._follow_columns(plans, before)  # 2
            since = Since() if whole else Since(before.mark, before.snapshot)
            half_applied = before.batch if before.applying_batch is not None else None
            reader = Reader(self.settings, self.client, batch, reading, snapshot)
            staging = Staging(self.client, reader, plans, self.progress, half_applied)

            def control_totals(connection: Connection, of: Collection[date] | None = None) -> None:
                rows_at_once = self.settings.ingestion.chunk_rows
                controls.stage(connection, self.client, of, batch=batch, rows_at_once=rows_at_once)

            empty_stage(self.client, schema.held(self.client) if rereading else held)
            if whole:
                staging.whole(control_totals, first_load=first)  # 3
            else:
                staging.new(since, rereading)
            moved, relocated = staging.moved_events()
            if not whole:
                staging.moved(moved, since, rereading)
            days = dict(before.touched_days) | touched.days(
                self.client,
                staging.holds,
                moved,
                first_load=first,
                whole=whole,
                at_once=self.settings.ingestion.parallel_ranges,
            )
            if accepted and not applied.number:  # restored: its marts may be as old as its rows were
                older = state.published_before(self.connection, self.client)
                days |= {day: "marts were restored" for day in sorted(older) if day not in days}
            self.progress(f"{len(days)} days touched")

            wanted = self._control_days(days, control_days, snapshot, whole)

            def evidence() -> None:
                if not whole:
                    control_totals(reading, wanted)
                controls.write(self.client, batch=batch)

            with _beside(evidence):
                state.begin_applying(self.connection, batch, days, rereading)  # 4
                self._apply(staging)  # 5
            clicks = clickstream_relocation.relocate(self.client, self._zones(relocated))  # 6
            if moved_days := {day: "clicks on another day" for day in clicks.days if day not in days}:
                days |= moved_days
                more = self._control_days(days, control_days, snapshot, whole) - wanted
                control_totals(reading, more)
                controls.write(self.client, batch=batch)
                wanted |= more
            totals = controls.publish(self.client, wanted, batch=batch, snapshot=snapshot)  # 7
            self.progress(f"control totals of {totals.days} days, {totals.cells} cells")
            self._write_batch(staging, kind, snapshot, fence, epoch, len(days))  # 8
            state.finish(
                self.connection,
                batch=batch,
                mark=snapshot.mark,
                snapshot=snapshot.text,
                epoch=epoch,
                as_of=snapshot.as_of,
                touched=days,
            )  # 9
            self.progress(f"batch {batch} applied")
            clear_stage(self.client)
            clickstream_relocation.settle(self.client, clicks)
            if superseded := controls.forget_superseded(self.client, totals):
                self.progress(f"{superseded} superseded control totals deleted")
            comparison = (
                compare(
                    reading, self.client, plans, batch=batch, as_of=snapshot.as_of, progress=self.progress
                )
                if reconcile
                else None
            )
        return SyncReport(
            batch=batch,
            mark=snapshot.mark,
            as_of=snapshot.as_of,
            kind=kind,
            rows=staging.rows,
            deletes=staging.deletes,
            touched_days=days,
            control_days=totals.days,
            control_cells=totals.cells,
            clicks_moved=clicks.clicks_moved,
            added_columns=tuple(f"{p.table.source}.{c.name}" for p in plans.values() for c in p.added),
            epoch=asdict(epoch),
            bytes=staging.bytes,
            seconds=time.monotonic() - started,
            reconciliation=comparison,
        )

    @contextmanager
    def _lock(self, name: str, *, shared: bool = False) -> Iterator[None]:
        with advisory_lock(
            self.connection,
            name,
            shared=shared,
            wait_seconds=self.settings.ingestion.lock_wait_seconds,
            on_wait=lambda holders: self.progress(f"waiting for the lock '{name}', held by {holders}"),
        ):
            yield

    # -- what is there ------------------------------------------------------------------------

    def _raw_is_empty(self) -> bool:
        any_row = " union all ".join(f"select 1 from {table.raw} limit 1" for table in TABLES)
        return not self.client.query(f"select 1 from ({any_row}) limit 1").result_rows

    def _newest_raw_version(self) -> int:
        parts = " union all ".join(f"select max(version) as newest from {table.raw}" for table in TABLES)
        return int(self.client.query(f"select max(newest) from ({parts})").result_rows[0][0])

    def _refuse(self, plans: dict[str, TablePlan], disagreements: list[Problem], *, lost: bool) -> None:
        """Stop, and tell what going on would change. Reads only."""
        if lost:
            raise Refused(
                [
                    *disagreements,
                    Problem(
                        "ClickHouse is empty, and PostgreSQL remembers filling it; nothing was written",
                        next="if BILTEN_CLICKHOUSE__HOST is the right server: bilten sync --full",
                    ),
                ]
            )
        self.progress(
            "PostgreSQL and ClickHouse disagree about the epoch; working out what a reconcile would change"
        )
        with source.open_snapshot(self.settings) as (reading, snapshot):
            report = compare(
                reading, self.client, plans, batch=0, as_of=snapshot.as_of, progress=self.progress
            )
        changes = [
            Problem(
                f"a reconcile would change {table.table}",
                expected=f"{table.rows_postgres} rows in PostgreSQL",
                found=f"{table.rows_clickhouse} rows in ClickHouse: "
                f"add {table.missing}, change {table.changed}, remove {table.extra}",
            )
            for table in report.tables
            if not table.equal
        ]
        span = f" ({report.days[0]} to {report.days[-1]})" if report.days else ""
        raise Refused(
            [
                *disagreements,
                *changes,
                Problem(
                    f"nothing was written; a reconcile would touch {len(report.days)} local days{span}",
                    next="if BILTEN_POSTGRES__HOST is the right server: bilten sync --accept-epoch",
                ),
            ]
        )

    def _follow_columns(self, plans: dict[str, TablePlan], before: state.SyncState) -> frozenset[str]:
        """Add new columns in ClickHouse; the tables whose every row must be read again."""
        added = {name: plan for name, plan in plans.items() if plan.added}
        rereading = before.rereading | added.keys()
        if added:
            state.remember_rereading(self.connection, rereading)
            for name, plan in added.items():
                self.progress(f"{name} has new columns: {', '.join(column.name for column in plan.added)}")
                schema.follow(self.client, plan)
        return frozenset(rereading)

    # -- applying -----------------------------------------------------------------------------

    def _apply(self, staging: Staging) -> None:
        """Parts are linked, nothing is copied; the stage is emptied when the batch is whole.

        MOVE PARTITION would empty it, but leaves an empty part behind for each that it took: the next batch
        moves those as well, and leaves as many again, faster than the server clears them.
        """

        def take(table: SyncedTable) -> None:
            self.connection.execute("select 1")  # without this session the locks are gone
            take_stage(self.client, table)
            self.progress(f"applied {table.source}")

        at_once = self.settings.ingestion.parallel_ranges
        with ThreadPoolExecutor(at_once, thread_name_prefix="sync-apply") as pool:
            list(pool.map(take, [table for table in TABLES if staging.holds(table)]))

    def _zones(self, events: list[UUID]) -> dict[UUID, str]:
        if not events or not self.client.query("select 1 from analytics.events limit 1").result_rows:
            return {}
        return dependents.zones_of(self.client, events)

    def _control_days(
        self, days: Collection[date], asked: Collection[date], snapshot: Snapshot, whole: bool
    ) -> set[date]:
        first = min([date.fromisoformat(self.settings.metrics.first_day), *days])
        missing = controls.days_without(self.client, first, snapshot.as_of)
        again = controls.days_with(self.client) if whole else set()
        return {*days, *asked, *missing, *again}

    def _write_batch(
        self,
        staging: Staging,
        kind: Kind,
        snapshot: Snapshot,
        fence: Fence,
        epoch: state.Epoch,
        days: int,
    ) -> None:
        batch = staging.reader.batch
        sent = {
            table.source: staging.rows.get(table.source, 0) + staging.deletes.get(table.source, 0)
            for table in TABLES
            if staging.holds(table)
        }
        settled = (
            fence.at
            if snapshot.mark >= fence.xid
            else state.settled_before(self.client, epoch, snapshot.mark)
        )
        row = {
            "batch": batch,
            "kind": kind,
            "mark": snapshot.mark,
            "next_xid": fence.xid,
            "began_at": f"{fence.at:%Y-%m-%d %H:%M:%S.%f}",
            "settled_until": f"{settled:%Y-%m-%d %H:%M:%S.%f}",
            "epoch": epoch.as_json(),
            "as_of": f"{snapshot.as_of.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}",
            "rows_by_table": sent,
            "touched_days": days,
        }
        self.client.raw_insert(
            "analytics.sync_batches",
            column_names=list(row),
            insert_block=json.dumps(row).encode(),
            fmt="JSONEachRow",
            settings={"insert_deduplication_token": f"{staging.reader.run}:sync_batches"},
        )
        self.progress(f"batch {batch} is whole in ClickHouse")
