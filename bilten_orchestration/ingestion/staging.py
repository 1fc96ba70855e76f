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
from bilten_orchestration.ingestion.transfer import Moved, Reader
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

    def holds(self, table: SyncedTable) -> bool:
        return bool(self.rows.get(table.source) or self.deletes.get(table.source))

    def whole(self, beside: Callable[[Connection], None], *, first_load: bool) -> None:
        """Every row; and, but in a first load, tombstones for what ClickHouse shows and PostgreSQL lacks.

        `beside` is run by one of the readers, on its connection.
        """
        last_told = time.monotonic()

        def done(plan: TablePlan, moved: Moved) -> None:
            nonlocal last_told
            self._count(self.rows, plan.table, moved)
            if time.monotonic() - last_told > _TOLD_EVERY_SECONDS:
                last_told = time.monotonic()
                self.progress(f"{sum(self.rows.values())} rows read")

        self.reader.whole(list(self.plans.values()), done, beside)
        if not first_load:
            for table in TABLES:
                self._count(self.deletes, table, Moved(rows=self._tombstones_of_absent(table)))
        self._tell()

    def new(self, since: Since, rereading: frozenset[str]) -> None:
        """What the batch before could not see; of tables in `rereading` every row."""
        for name, plan in self.plans.items():
            condition = sql.SQL("true") if name in rereading else since.new("t")
            self._count(self.rows, plan.table, self.reader.rows(plan, condition, "new"))
            self._count(self.deletes, plan.table, self.reader.tombstones(plan.table, since))
        self._tell()

    def moved_events(self) -> tuple[list[UUID], list[UUID]]:
        """Events whose zone or organization changed; and those whose clicks may lie on other days."""
        if not (self.holds(dependents.ORGANIZATIONS) or self.holds(dependents.EVENTS)):
            return [], []
        organizations = dependents.organizations_with_another_zone(self.client, self.half_applied)
        moved = set(dependents.events_of(self.client, organizations))
        moved |= set(dependents.events_with_another_organization(self.client, self.half_applied))
        return sorted(moved), sorted(moved | set(dependents.new_events(self.client, self.half_applied)))

    def moved(self, events: list[UUID], since: Since, rereading: frozenset[str]) -> None:
        """Rows of these events that did not change, but whose local dates did."""
        if not events:
            return
        self.progress(
            f"{len(events)} events have another time zone or organization: reading their rows again"
        )
        ids = sql.Literal([str(each) for each in events])
        for name, plan in self.plans.items():
            if plan.table.event and name not in rereading:
                condition = sql.SQL("{} = any({}::uuid[]) and {}").format(
                    sql.SQL(plan.table.event), ids, since.sees("t")
                )
                self._count(self.rows, plan.table, self.reader.rows(plan, condition, "moved"))

    def _tombstones_of_absent(self, table: SyncedTable) -> int:
        self.client.command(
            f"insert into {table.stage} ({table.key_list}, version, is_deleted) "
            f"select {table.key_list}, {self.reader.batch}, 1 from "
            f"(select {table.key_list}, 0 as staged from {table.raw} final union all "
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

    def _tell(self) -> None:
        self.progress(f"staged: {sum(self.rows.values())} rows, {sum(self.deletes.values())} deletes")
