"""Rows from PostgreSQL into the stage tables of ClickHouse, in chunks of bounded size.

PostgreSQL writes the text, ClickHouse parses it, Python moves bytes. A chunk is one INSERT with a body
held in memory and a deduplication token, so that the client may send it again when a connection
breaks: the same bytes under the same token count once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING
from uuid import uuid4

from psycopg import sql

from bilten_orchestration.ingestion import source
from bilten_orchestration.ingestion.schema import OWN_COLUMNS, TablePlan
from bilten_orchestration.ingestion.source import Since, Snapshot
from bilten_orchestration.ingestion.tables import RAW, STAGE, TABLES, SyncedTable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


# staged parts live for seconds: they are merged once, in raw
_UNMERGED = (
    "max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1, "
    "parts_to_delay_insert = 3000, parts_to_throw_insert = 10000"
)


@dataclass(frozen=True, slots=True)
class Moved:
    """What one statement brought over."""

    rows: int = 0
    bytes: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.rows + other.rows, self.bytes + other.bytes)


def empty_stage(client: Client) -> None:
    """Stage tables with the structure of the raw ones, and nothing in them, whatever a killed batch left.

    They are kept between batches: making fourteen tables takes longer than most batches.
    """
    shape: dict[tuple[str, str], tuple[str, ...]] = {}
    filled: set[tuple[str, str]] = set()
    for database, name, engine, rows, columns in client.query(
        "select t.database, t.name, (t.engine, t.sorting_key, t.partition_key), t.total_rows, c.columns "
        "from system.tables t left join "
        "(select database, table, groupArray((name, type)) as columns from "
        "(select * from system.columns where database in {databases:Array(String)} order by position) "
        "group by database, table) c on c.database = t.database and c.table = t.name "
        "where t.database in {databases:Array(String)}",
        parameters={"databases": [RAW, STAGE]},
    ).result_rows:
        shape[database, name] = (str(engine), *map(str, columns))
        if rows:
            filled.add((database, name))
    wanted = {table.target: table for table in TABLES}
    others = [f"{STAGE}.`{name}`" for database, name in shape if database == STAGE and name not in wanted]
    if others:
        client.command(f"drop table if exists {', '.join(others)} sync")
    for name, table in wanted.items():
        if shape.get((STAGE, name)) != shape.get((RAW, name)):
            client.command(f"drop table if exists {table.stage} sync")
            client.command(f"create table {table.stage} as {table.raw}")
            client.command(f"alter table {table.stage} modify setting {_UNMERGED}")
        elif (STAGE, name) in filled:
            client.command(f"truncate table {table.stage} sync")


@dataclass(frozen=True, slots=True)
class Reader:
    """Brings rows of one batch over; `connection` is in the batch's snapshot.

    `run` makes tokens this process's own: stage tables remember them, and numbers of batches come again
    when PostgreSQL was made anew, whose first load would then be taken for one that is there already.
    """

    settings: Settings
    client: Client
    batch: int
    connection: Connection
    snapshot: Snapshot
    run: str = field(default_factory=lambda: uuid4().hex)

    def rows(self, plan: TablePlan, condition: sql.Composable, label: str) -> Moved:
        return self._rows(self.connection, plan, condition, label)

    def tombstones(self, table: SyncedTable, since: Since) -> Moved:
        statement = source.tombstones_statement(table, self.batch, since)
        return self._move(self.connection, statement, table, [*table.key, *OWN_COLUMNS], "deleted")

    def whole(
        self,
        plans: Sequence[TablePlan],
        done: Callable[[TablePlan, Moved], None],
        beside: Callable[[Connection], None],
    ) -> None:
        """Whole tables, by `parallel_ranges` readers that import the snapshot; one begins with `beside`.

        Work is cut by blocks of the heap, so that the last big table does not keep one reader alone;
        the largest come first. An error of one reader ends the others after their chunk.
        """
        readers = self.settings.ingestion.parallel_ranges
        work: SimpleQueue[tuple[TablePlan, sql.Composable, str]] = SimpleQueue()
        for plan in sorted(plans, key=self._size, reverse=True):
            ranges = source.block_ranges(self.connection, plan.table, 4 * readers if readers > 1 else 1)
            for number, condition in enumerate(ranges):
                work.put((plan, condition, f"range {number}"))
        failed = Event()

        def run(first: Callable[[Connection], None] | None) -> None:
            try:
                with source.import_snapshot(self.settings, self.snapshot) as connection:
                    if first is not None:
                        first(connection)
                    while not failed.is_set():
                        try:
                            plan, condition, label = work.get_nowait()
                        except Empty:
                            break
                        done(plan, self._rows(connection, plan, condition, label))
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(readers, thread_name_prefix="sync-reader") as pool:
            for future in [pool.submit(run, None if other else beside) for other in range(readers)]:
                future.result()

    def _size(self, plan: TablePlan) -> int:
        row = self.connection.execute(
            "select pg_relation_size(%s::regclass)", (plan.table.source,)
        ).fetchone()
        return int(row[0]) if row else 0

    def _rows(self, connection: Connection, plan: TablePlan, condition: sql.Composable, label: str) -> Moved:
        statement = source.rows_statement(plan, self.batch, condition)
        names = [*(column.name for column in plan.columns), *OWN_COLUMNS]
        return self._move(connection, statement, plan.table, names, label)

    def _move(
        self,
        connection: Connection,
        statement: sql.Composed,
        table: SyncedTable,
        names: Sequence[str],
        label: str,
    ) -> Moved:
        total = Moved()
        with closing(source.chunks(connection, statement, self.settings.ingestion.chunk_rows)) as chunks:
            for number, (rows, body) in enumerate(chunks):
                self.client.raw_insert(
                    table.stage,
                    column_names=names,
                    insert_block=body,
                    fmt="TabSeparated",
                    settings={
                        "insert_deduplication_token": f"{self.run}:{table.target}:{label}:{number}",
                        "input_format_parallel_parsing": 0,  # the readers are parallel already
                        "optimize_on_insert": 0,  # no key comes twice in a chunk; looking costs a third
                    },
                )
                total += Moved(rows, len(body))
        return total
