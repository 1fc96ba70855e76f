"""Rows from PostgreSQL into the stage tables of ClickHouse, in chunks of bounded size.

PostgreSQL writes the text, ClickHouse parses it, Python moves bytes. A chunk is one INSERT with a body
held in memory and a deduplication token, so that the client may send it again when a connection
breaks: the same bytes under the same token count once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


# what one of the connections of a batch's snapshot is used for
Job = Callable[[Connection], None]


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
    # without SYNC, which waits for every disk of the server: for ever where the store of backups is away
    if others:
        client.command(f"drop table if exists {', '.join(others)}")
    for name, table in wanted.items():
        if shape.get((STAGE, name)) != shape.get((RAW, name)):
            client.command(f"drop table if exists {table.stage}")
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

    def at_once(self, jobs: Iterable[Job]) -> None:
        """Each of `jobs` once, in this order, by `parallel_ranges` connections that see the same snapshot.

        An error of one ends the others after their chunk.
        """
        waiting: SimpleQueue[Job] = SimpleQueue()
        for job in jobs:
            waiting.put(job)
        failed = Event()

        def work(connection: Connection) -> None:
            try:
                while not failed.is_set():
                    waiting.get_nowait()(connection)
            except Empty:
                return
            except BaseException:
                failed.set()
                raise

        def work_beside() -> None:
            with source.import_snapshot(self.settings, self.snapshot) as connection:
                work(connection)

        readers = min(self.settings.ingestion.parallel_ranges, waiting.qsize())
        with ThreadPoolExecutor(max(readers, 1), thread_name_prefix="sync-reader") as pool:
            beside = [pool.submit(work_beside) for _ in range(readers - 1)]
            for future in [pool.submit(work, self.connection), *beside]:
                future.result()

    def ranges(self, plans: Iterable[TablePlan]) -> list[tuple[TablePlan, sql.Composable, str]]:
        """Whole tables as ranges of their heap, with a label each.

        The largest come first, or one reader would be left alone with a table that cannot be cut.
        """
        wanted = self.settings.ingestion.parallel_ranges
        sized = []
        for plan in plans:
            conditions = source.block_ranges(self.connection, plan.table, 4 * wanted if wanted > 1 else 1)
            size = self._size(plan) / len(conditions)
            sized += [
                (size, plan, condition, f"range {number}") for number, condition in enumerate(conditions)
            ]
        sized.sort(key=lambda each: each[0], reverse=True)
        return [(plan, condition, label) for _, plan, condition, label in sized]

    def rows(self, connection: Connection, plan: TablePlan, condition: sql.Composable, label: str) -> Moved:
        statement = source.rows_statement(plan, self.batch, condition)
        names = [*(column.name for column in plan.columns), *OWN_COLUMNS]
        return self._move(connection, statement, plan.table, names, label)

    def tombstones(self, connection: Connection, table: SyncedTable, since: Since) -> Moved:
        statement = source.tombstones_statement(table, self.batch, since)
        return self._move(connection, statement, table, [*table.key, *OWN_COLUMNS], "deleted")

    def tables_with_deletes(self, since: Since) -> set[str]:
        """Sources of the tables that have tombstones; most batches have few."""
        return source.tables_with_deletes(self.connection, since)

    def _size(self, plan: TablePlan) -> int:
        row = self.connection.execute(
            "select pg_relation_size(%s::regclass)", (plan.table.source,)
        ).fetchone()
        return int(row[0]) if row else 0

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
