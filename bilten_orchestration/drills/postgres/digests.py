"""A digest of every table: of production in one snapshot, of the restored server at its end.

A digest is the number of rows and the sum of a hash of each row as text. A sum does not depend on the order
of rows, nor on where they lie, and unlike XOR does not cancel equal rows; text, because hashes of records
differ once types have other oids. What text depends on is pinned (PINNED), and the collation is C, so that no
library of locales takes part. Partitions have one each; unlogged tables are empty after a restore, so they
are listed and not digested. Views, foreign and temporary tables have no data of their own.

Production is read by plain SELECTs, one connection per core that is granted, without parallel workers. They
lock nobody out but DDL on these tables, which waits for them as it does for pg_dump, and hold back vacuum
while they run. About 100 MB/s a core: `Digests.seconds_per_100_gb` is what was measured.

What did not change since the drill before is not read again where that is proven: unchanged.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from psycopg import sql

from bilten_orchestration.progress import Progress
from bilten_orchestration.stores.postgres import Connection

#: What the text of a value depends on (manual, "Client Connection Defaults"), and what a reader may not do.
PINNED: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "",
    "quote_all_identifiers": "off",
    "row_security": "off",  # an error where rows would be hidden
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_connection_check_interval": "10s",  # a drill that was killed stops reading
}
_TOLD_SECONDS = 5
_GB = 10**9

# pg_class by the snapshot, pg_relation_filenode() by what is now: they differ once a table was truncated or
# rewritten, and such a table looks empty or incomplete to older snapshots
_TABLES = """
    select n.nspname, c.relname, coalesce(rn.nspname || '.' || r.relname, n.nspname || '.' || c.relname),
           c.relpersistence = 'u', coalesce(pg_table_size(c.oid), 0),
           c.relfilenode is distinct from pg_relation_filenode(c.oid)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_class r on r.oid = pg_partition_root(c.oid)
    left join pg_namespace rn on rn.oid = r.relnamespace
    where c.relkind in ('r', 'm') and c.relpersistence <> 't' and c.relispopulated
      and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
    order by pg_table_size(c.oid) desc nulls last, 1, 2
"""
QUERY = """
    select count(*), coalesce(sum(hashtextextended((bilten_row.*)::text collate "C", 0)), 0)::text
    from only {} bilten_row
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or a partition; `root` is what it is a partition of, or itself. `moved`: it was truncated or
    rewritten since the snapshot, which cannot read it any more. `bytes` with TOAST."""

    schema: str
    name: str
    root: str
    unlogged: bool
    bytes: int
    moved: bool

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class Digest:
    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class Digests:
    """By schema.table; `unlogged` have none. `counts` are rows by table, with those of its partitions."""

    tables: Mapping[str, Digest]
    counts: Mapping[str, int]
    unlogged: tuple[str, ...]
    bytes: int
    seconds: float

    @property
    def rows(self) -> int:
        return sum(digest.rows for digest in self.tables.values())

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_per_100_gb(self) -> float:
        return 100 * _GB / self.bytes_per_second if self.bytes else 0.0


def pin(connection: Connection) -> None:
    """For the session, before any transaction."""
    for name, value in PINNED.items():
        connection.execute("select set_config(%s, %s, false)", (name, value))


def tables(connection: Connection) -> tuple[Table, ...]:
    """What there is by the connection's snapshot, the largest first."""
    return tuple(Table(*row) for row in connection.execute(_TABLES).fetchall())


def compute(connections: Sequence[Connection], found: Sequence[Table], progress: Progress) -> Digests:
    """Of these tables, each connection reading one at a time. They are pinned, and see the same.

    Raises psycopg.Error; the other connections are then cancelled.
    """
    began = time.monotonic()
    waiting: SimpleQueue[Table] = SimpleQueue()
    read = [table for table in found if not table.unlogged]
    for table in read:
        waiting.put(table)
    whole = sum(table.bytes for table in read)
    made: dict[str, Digest] = {}
    told = _Told(progress, whole)

    def work(connection: Connection) -> None:
        while True:
            try:
                table = waiting.get_nowait()
            except Empty:
                return
            row = connection.execute(sql.SQL(QUERY).format(table.identifier)).fetchone()
            assert row is not None  # noqa: S101
            made[table.label] = Digest(*row)
            told.read(table)

    with ThreadPoolExecutor(len(connections), thread_name_prefix="digest") as pool:
        running = [pool.submit(work, connection) for connection in connections]
        try:
            for each in running:
                each.result()
        except BaseException:
            while not waiting.empty():
                waiting.get()
            for connection in connections:
                connection.cancel_safe(timeout=10)
            raise
    counts: dict[str, int] = {}
    for table in read:
        counts[table.root] = counts.get(table.root, 0) + made[table.label].rows
    unlogged = tuple(sorted(table.label for table in found if table.unlogged))
    return Digests(made, counts, unlogged, whole, time.monotonic() - began)


def together(found: Sequence[Table], parts: Sequence[Digests], known: Mapping[str, Digest]) -> Digests:
    """Of all tables, from those that were read in `parts` and those that are `known`: bytes and seconds are
    those of reading."""
    made = {table.label: known[table.label] for table in found if table.label in known}
    for part in parts:
        made |= part.tables
    counts: dict[str, int] = {}
    for table in found:
        if not table.unlogged:
            counts[table.root] = counts.get(table.root, 0) + made[table.label].rows
    return Digests(
        made,
        counts,
        tuple(sorted(table.label for table in found if table.unlogged)),
        sum(part.bytes for part in parts),
        sum(part.seconds for part in parts),
    )


def differences(production: Digests, restored: Digests) -> tuple[str, ...]:
    """Which tables differ, in words: none are equal."""
    said = []
    for label in sorted(production.tables.keys() | restored.tables.keys()):
        one, other = production.tables.get(label), restored.tables.get(label)
        if one is None or other is None:
            said.append(f"{label} is only {'restored' if one is None else 'in production'}")
        elif one.rows != other.rows:
            said.append(f"{label}: {one.rows:,} rows, restored {other.rows:,}")
        elif one != other:
            said.append(f"{label}: {one.rows:,} rows on both sides, with other values")
    return tuple(said)


class _Told:
    """Progress of several threads."""

    def __init__(self, progress: Progress, whole: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress, self._whole, self._clock = progress, whole, clock
        self._read, self._at, self._guard = 0, clock(), threading.Lock()

    def read(self, table: Table) -> None:
        with self._guard:
            self._read += table.bytes
            if self._clock() - self._at < _TOLD_SECONDS:
                return
            self._at = self._clock()
            done = self._read
        self._progress(f"digests: {done >> 20:,} of {self._whole >> 20:,} MiB")
