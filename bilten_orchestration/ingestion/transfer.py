"""Rows from PostgreSQL into the stage tables of ClickHouse, in chunks of bounded size.

PostgreSQL writes the text, ClickHouse parses it, Python moves bytes. A chunk is one INSERT with a body
held in memory and a deduplication token, so that the client may send it again when a connection
breaks: the same bytes under the same token count once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING
from uuid import uuid4

from psycopg import sql

from bilten_orchestration.ingestion import source
from bilten_orchestration.ingestion.schema import OWN_COLUMNS, Held, TablePlan
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


@dataclass(slots=True)
class Lane:
    """A connection in a batch's snapshot, and the insert of what was read there last.

    That goes on while the next is read; one at a time, so that a lane holds two chunks at most.
    """

    connection: Connection
    _pool: Executor
    _sending: Future[object] | None = None

    def send(self, insert: Callable[[], object]) -> None:
        self.wait()
        self._sending = self._pool.submit(insert)

    def wait(self) -> None:
        """Until what was sent is there. Raises what went wrong with it."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.result()


# what a lane is used for
Job = Callable[[Lane], None]


def empty_stage(client: Client, held: Mapping[tuple[str, str], Held]) -> None:
    """Stage tables with the structure of the raw ones, and nothing in them, whatever a killed batch left.

    They are kept between batches: making fourteen tables takes longer than most batches. `held` is what is
    there now.
    """
    wanted = {table.target: table for table in TABLES}
    others = [f"{STAGE}.`{name}`" for database, name in held if database == STAGE and name not in wanted]
    # without SYNC, which waits for every disk of the server: for ever where the store of backups is away
    if others:
        client.command(f"drop table if exists {', '.join(others)}")
    if any(held[STAGE, name].rows for name in wanted if (STAGE, name) in held):
        clear_stage(client)
    for name, table in wanted.items():
        stage = held.get((STAGE, name))
        if stage is None or not stage.like(held[RAW, name]):
            client.command(f"drop table if exists {table.stage}")
            client.command(f"create table {table.stage} as {table.raw}")
            client.command(f"alter table {table.stage} modify setting {_UNMERGED}")


def take_stage(client: Client, table: SyncedTable) -> None:
    """Everything that is staged of a table into its raw copy, in one step. The stage keeps it as well."""
    client.command(f"alter table {table.raw} attach partition id 'all' from {table.stage}")


def clear_stage(client: Client) -> None:
    """Every table of the stage without its rows, at once: a quarter of the time that one by one takes."""
    client.command(f"truncate all tables from {STAGE}")


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

        An error of one ends the others after their chunk. Everything is inserted when it returns.
        """
        waiting: SimpleQueue[Job] = SimpleQueue()
        for job in jobs:
            waiting.put(job)
        failed = Event()

        def work(connection: Connection) -> None:
            lane = Lane(connection, senders)
            try:
                with suppress(Empty):
                    while not failed.is_set():
                        waiting.get_nowait()(lane)
                lane.wait()
            except BaseException:
                failed.set()
                raise

        def work_beside() -> None:
            with source.import_snapshot(self.settings, self.snapshot) as connection:
                work(connection)

        readers = min(self.settings.ingestion.parallel_ranges, waiting.qsize())
        with (
            ThreadPoolExecutor(max(readers, 1), thread_name_prefix="sync-sender") as senders,
            ThreadPoolExecutor(max(readers, 1), thread_name_prefix="sync-reader") as pool,
        ):
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

    def rows(self, lane: Lane, plan: TablePlan, condition: sql.Composable, label: str) -> Moved:
        statement = source.rows_statement(plan, self.batch, condition)
        names = [*(column.name for column in plan.columns), *OWN_COLUMNS]
        return self._move(lane, statement, plan.table, names, label)

    def tombstones(self, lane: Lane, table: SyncedTable, since: Since) -> Moved:
        statement = source.tombstones_statement(table, self.batch, since)
        return self._move(lane, statement, table, [*table.key, *OWN_COLUMNS], "deleted")

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
        lane: Lane,
        statement: sql.Composed,
        table: SyncedTable,
        names: Sequence[str],
        label: str,
    ) -> Moved:
        total = Moved()
        with closing(source.chunks(lane.connection, statement, self.settings.ingestion.chunk_rows)) as chunks:
            for number, (rows, body) in enumerate(chunks):
                settings = {
                    "insert_deduplication_token": f"{self.run}:{table.target}:{label}:{number}",
                    "input_format_parallel_parsing": 0,  # the readers are parallel already
                    "optimize_on_insert": 0,  # no key comes twice in a chunk; looking costs a third
                }
                lane.send(
                    partial(
                        self.client.raw_insert,
                        table.stage,
                        column_names=names,
                        insert_block=body,
                        fmt="TabSeparated",
                        settings=settings,
                    )
                )
                total += Moved(rows, len(body))
        return total
