"""Everything of one batch into the stage tables: whole tables, or what is new, and what moved with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import sql

from bilten_orchestration.ingestion import dependents
from bilten_orchestration.ingestion.schema import TablePlan
from bilten_orchestration.ingestion.source import Since
from bilten_orchestration.ingestion.tables import TABLES, SyncedTable
from bilten_orchestration.ingestion.transfer import Job, Lane, Moved, Reader
from bilten_orchestration.progress import Progress
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_SPILLING = {"max_bytes_before_external_group_by": 256 << 20}
_TOLD_EVERY_SECONDS = 2


@dataclass
class Staging:
    """`half_applied` is the last whole batch where a later one was killed half applied, else None."""

    client: Client
    reader: Reader
    plans: dict[str, TablePlan]
    progress: Progress
    half_applied: int | None
    rows: dict[str, int] = field(default_factory=dict)
    deletes: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    _counting: Lock = field(default_factory=Lock)
    _told_at: float = field(default_factory=time.monotonic)

    def holds(self, table: SyncedTable) -> bool:
        return bool(self.rows.get(table.source) or self.deletes.get(table.source))

    def whole(self, beside: Callable[[Connection], None], *, first_load: bool) -> None:
        """Every row; and, but in a first load, tombstones for what ClickHouse shows and PostgreSQL lacks.

        `beside` is run by one of the readers, on its connection.
        """
        rows = [self._rows(*ranged) for ranged in self.reader.ranges(self.plans.values())]
        self.reader.at_once([lambda lane: beside(lane.connection), *rows])
        if not first_load:
            for table in TABLES:
                self._count(self.deletes, table, Moved(rows=self._tombstones_of_absent(table)))
        self._tell()

    def new(self, since: Since, rereading: frozenset[str]) -> None:
        """What the batch before could not see; of tables in `rereading` every row."""
        with_deletes = self.reader.tables_with_deletes(since)
        self.reader.at_once(
            [
                *(
                    self._rows(plan, sql.SQL("true") if name in rereading else since.new("t"), "new")
                    for name, plan in self.plans.items()
                ),
                *(
                    self._tombstones(plan.table, since)
                    for name, plan in self.plans.items()
                    if name in with_deletes
                ),
            ]
        )
        self._tell()

    def moved_events(self) -> tuple[list[UUID], list[UUID]]:
        """Events whose zone or organization changed; and those whose clicks may lie on other days."""
        if not (self.holds(dependents.ORGANIZATIONS) or self.holds(dependents.EVENTS)):
            return [], []
        staged = dependents.staged(self.client, self.half_applied)
        moved = {
            *dependents.events_of(self.client, staged.with_another_zone),
            *staged.with_another_organization,
        }
        return sorted(moved), sorted(moved | staged.new_events)

    def moved(self, events: list[UUID], since: Since, rereading: frozenset[str]) -> None:
        """Rows of these events that did not change, but whose local dates did."""
        if not events:
            return
        self.progress(
            f"{len(events)} events have another time zone or organization: reading their rows again"
        )
        ids = sql.Literal([str(each) for each in events])
        self.reader.at_once(
            self._rows(
                plan,
                sql.SQL("{} = any({}::uuid[]) and {}").format(
                    sql.SQL(plan.table.event), ids, since.sees("t")
                ),
                "moved",
            )
            for name, plan in self.plans.items()
            if plan.table.event and name not in rereading
        )

    def _rows(self, plan: TablePlan, condition: sql.Composable, label: str) -> Job:
        def read(lane: Lane) -> None:
            self._count(self.rows, plan.table, self.reader.rows(lane, plan, condition, label))
            self._tell_sometimes()

        return read

    def _tombstones(self, table: SyncedTable, since: Since) -> Job:
        def read(lane: Lane) -> None:
            self._count(self.deletes, table, self.reader.tombstones(lane, table, since))

        return read

    def _tombstones_of_absent(self, table: SyncedTable) -> int:
        self.client.command(
            f"insert into {table.stage} ({table.key_list}, version, is_deleted) "
            f"select {table.key_list}, {self.reader.batch}, 1 from "
            f"(select {table.key_list}, 0 as staged from {table.raw} final "
            f"where {self.plans[table.source].in_clickhouse} union all "
            f"select {table.key_list}, 1 as staged from {table.stage}) "
            f"group by {table.key_list} having max(staged) = 0",
            settings=_SPILLING,
        )
        counted = self.client.query(f"select count() from {table.stage} where is_deleted = 1").result_rows
        return int(counted[0][0])

    def _count(self, counts: dict[str, int], table: SyncedTable, moved: Moved) -> None:
        with self._counting:
            if moved.rows:
                counts[table.source] = counts.get(table.source, 0) + moved.rows
            self.bytes += moved.bytes

    def _tell_sometimes(self) -> None:
        with self._counting:
            due = time.monotonic() - self._told_at > _TOLD_EVERY_SECONDS
            if due:
                self._told_at = time.monotonic()
        if due:
            self.progress(f"{sum(self.rows.values())} rows read")

    def _tell(self) -> None:
        self.progress(f"staged: {sum(self.rows.values())} rows, {sum(self.deletes.values())} deletes")
