"""Reading PostgreSQL: one snapshot per batch, shared by every reader, and the rows that are new in it.

New is what the batch before could not see: sync_xid at or above its mark (the xmin of its snapshot,
which makes it an index range) and not visible in its snapshot. So neither a writer that commits late
nor a prepared transaction is missed, and what lies between mark and now, but was sent already, is not
sent again and again while one transaction stays open for days.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from select import POLLIN, poll

from psycopg import OperationalError, pq, sql
from psycopg.errors import error_from_result

from bilten_orchestration.ingestion.schema import TablePlan
from bilten_orchestration.ingestion.tables import SyncedTable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

# one order of rows per statement and snapshot: a chunk that is sent twice holds the same rows
_SESSION = """
    set synchronize_seqscans = off;
    set max_parallel_workers_per_gather = 0;
    set cursor_tuple_fraction = 1;
    set work_mem = '64MB';
    set statement_timeout = 0;
    set idle_in_transaction_session_timeout = 0;
"""


# every role may see these columns of others
_HOLDERS = """
    select string_agg(said, '; ' order by old desc) from (
        select age(backend_xid) as old,
               concat('pid ', pid, ', ', usename, ', ', application_name) as said
        from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
        union all
        select age(transaction),
               concat('prepared transaction ', gid, ', since ', to_char(prepared, 'YYYY-MM-DD HH24:MI:SS'))
        from pg_prepared_xacts
        order by old desc limit 3) oldest
"""

CHUNK_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`name` imports it elsewhere; `text` is the pg_snapshot, `mark` its xmin; `as_of` just precedes it."""

    name: str
    text: str
    mark: int
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Fence:
    """A transaction id and when (UTC) it was given: whoever had one at that moment has a lower one."""

    xid: int
    at: datetime


def fence(connection: Connection, wait_seconds: float) -> Fence:
    """A fence, once everything below it has ended or that long has passed. `connection` is in autocommit.

    A snapshot that is taken then has a mark at or above the fence in the first case, however many short
    transactions come and go. Its xmin alone would not tell: it is that of the oldest one that is open, and
    on a busy server one always is.
    """
    row = connection.execute("select clock_timestamp(), pg_current_xact_id()::text").fetchone()
    assert row is not None  # noqa: S101
    found = Fence(int(row[1]), row[0].astimezone(UTC))
    until = time.monotonic() + wait_seconds
    while not _ended(connection, found) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def holders(connection: Connection) -> str:
    """The oldest transactions that have an id, in words; "none" where all have ended."""
    row = connection.execute(_HOLDERS).fetchone()
    return str(row[0]) if row and row[0] else "none"


def _ended(connection: Connection, below: Fence) -> bool:
    row = connection.execute(
        "select pg_snapshot_xmin(pg_current_snapshot()) >= %s::text::xid8", (str(below.xid),)
    ).fetchone()
    return bool(row and row[0])


@contextmanager
def open_snapshot(settings: Settings) -> Iterator[tuple[Connection, Snapshot]]:
    """A connection in a REPEATABLE READ READ ONLY transaction, its snapshot exported while it lasts."""
    with postgres.connect(
        settings.postgres, "etl", application_name="bilten sync reader", autocommit=True
    ) as connection:
        connection.execute(_SESSION)
        connection.execute("begin isolation level repeatable read read only")
        row = connection.execute(
            "select statement_timestamp(), pg_export_snapshot(), pg_current_snapshot()::text, "
            "pg_snapshot_xmin(pg_current_snapshot())::text"
        ).fetchone()
        assert row is not None  # noqa: S101
        yield connection, Snapshot(name=row[1], text=row[2], mark=int(row[3]), as_of=row[0])
        connection.execute("commit")


@contextmanager
def import_snapshot(settings: Settings, snapshot: Snapshot) -> Iterator[Connection]:
    """One more connection that sees exactly the same."""
    with postgres.connect(
        settings.postgres, "etl", application_name="bilten sync reader", autocommit=True
    ) as connection:
        connection.execute(_SESSION)
        connection.execute("begin isolation level repeatable read read only")
        connection.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot.name)))
        yield connection
        connection.execute("commit")


@dataclass(frozen=True, slots=True)
class Since:
    """What the batch before has seen. The default has seen nothing."""

    mark: int = 0
    snapshot: str | None = None

    def sees(self, alias: str) -> sql.Composable:
        """Condition: the row was visible to the batch before."""
        if self.snapshot is None and self.mark == 0:
            return sql.SQL("false")
        below = sql.SQL("{}.sync_xid < {}::xid8").format(sql.SQL(alias), sql.Literal(str(self.mark)))
        if self.snapshot is None:
            return below
        return sql.SQL("({} or pg_visible_in_snapshot({}.sync_xid, {}::pg_snapshot))").format(
            below, sql.SQL(alias), sql.Literal(self.snapshot)
        )

    def new(self, alias: str) -> sql.Composable:
        """Condition: the row is new. The bound by mark stands alone, for the index."""
        if self.snapshot is None and self.mark == 0:
            return sql.SQL("true")
        above = sql.SQL("{}.sync_xid >= {}::xid8").format(sql.SQL(alias), sql.Literal(str(self.mark)))
        if self.snapshot is None:
            return above
        return sql.SQL("({} and not pg_visible_in_snapshot({}.sync_xid, {}::pg_snapshot))").format(
            above, sql.SQL(alias), sql.Literal(self.snapshot)
        )


def rows_statement(plan: TablePlan, batch: int, condition: sql.Composable) -> sql.Composed:
    """COPY of the rows that meet `condition` (over t and the table's joins), with version and is_deleted."""
    return sql.SQL(
        "copy (select {columns}, {batch}, 0 from {table} t {joins} where {condition}) to stdout"
    ).format(
        columns=sql.SQL(", ".join(column.transport for column in plan.columns)),
        batch=sql.Literal(batch),
        table=sql.Identifier(plan.table.schema, plan.table.name),
        joins=sql.SQL(plan.table.zone_joins),
        condition=condition,
    )


def tables_with_deletes(connection: Connection, since: Since) -> set[str]:
    """Sources of the tables with rows deleted since."""
    statement = sql.SQL("select distinct table_name from system.deleted_rows d where {}")
    return {str(name) for (name,) in connection.execute(statement.format(since.new("d"))).fetchall()}


def tombstones_statement(table: SyncedTable, batch: int, since: Since) -> sql.Composed:
    """COPY of the keys deleted since, one each, with version and is_deleted = 1.

    A key that was deleted and is there again is no tombstone: the row itself is new in this batch.
    """
    parts = [
        sql.SQL("split_part(d.row_key, '|', {})").format(sql.Literal(place + 1))
        for place in range(len(table.key))
    ]
    there_again: sql.Composable = sql.SQL(" and ").join(
        sql.SQL("t.{}::text = {}").format(sql.Identifier(column), part)
        for column, part in zip(table.key, parts, strict=True)
    )
    if table.key == ("id",):
        there_again = sql.SQL("t.id = d.row_key::uuid")
    return sql.SQL(
        "copy (select distinct {parts}, {batch}, 1 from system.deleted_rows d where d.table_name = {name} "
        "and {new} "
        "and not exists (select from {table} t where {there_again})) to stdout"
    ).format(
        parts=sql.SQL(", ").join(parts),
        batch=sql.Literal(batch),
        name=sql.Literal(table.source),
        new=since.new("d"),
        table=sql.Identifier(table.schema, table.name),
        there_again=there_again,
    )


def block_ranges(connection: Connection, table: SyncedTable, wanted: int) -> list[sql.Composable]:
    """The heap cut into about `wanted` ranges of blocks, as conditions over t; the last one has no end.

    ctid takes a privilege on the whole table: one that holds personal columns stays in one piece.
    """
    row = connection.execute(
        "select case when has_table_privilege(%s, 'select') "
        "then pg_relation_size(%s::regclass) / current_setting('block_size')::int else 0 end",
        (table.source, table.source),
    ).fetchone()
    blocks = int(row[0]) if row else 0
    if wanted <= 1 or blocks < 256:
        return [sql.SQL("true")]
    step = -(-blocks // wanted)
    bounds = list(range(0, blocks, step))
    ranges: list[sql.Composable] = []
    for start in bounds:
        low = sql.SQL("t.ctid >= {}::tid").format(sql.Literal(f"({start},0)"))
        if start == bounds[-1]:
            ranges.append(low)
        else:
            high = sql.SQL("t.ctid < {}::tid").format(sql.Literal(f"({start + step},0)"))
            ranges.append(sql.SQL("{} and {}").format(low, high))
    return ranges


def chunks(
    connection: Connection, statement: sql.Composed, rows_at_once: int, bytes_at_once: int = CHUNK_BYTES
) -> Generator[tuple[int, bytes], None, None]:
    """The output of a COPY statement as (rows, bytes): at most `rows_at_once` rows, about `bytes_at_once`.

    Read through libpq's own calls: psycopg's loop over a COPY builds a generator for every row, which took
    as long as PostgreSQL takes to write it. Close it (contextlib.closing): when it ends early, so does the
    connection, which is in the middle of an answer.
    """
    pgconn = connection.pgconn
    held = bytearray()
    rows = 0
    ended = False
    try:
        pgconn.send_query(statement.as_string(connection).encode())
        _answer(connection, pq.ExecStatus.COPY_OUT)
        while True:
            size, row = pgconn.get_copy_data(1)
            if size > 0:
                held += row
                rows += 1
                if rows >= rows_at_once or len(held) >= bytes_at_once:
                    yield rows, bytes(held)
                    held.clear()
                    rows = 0
            elif size == 0:
                _await_input(connection)
            else:
                break
        _answer(connection, pq.ExecStatus.COMMAND_OK)
        ended = True
    finally:
        if not ended:
            connection.close()
    if rows:
        yield rows, bytes(held)


def _answer(connection: Connection, wanted: pq.ExecStatus) -> None:
    """The next result of the connection; an error of the server is raised as psycopg does."""
    pgconn = connection.pgconn
    while pgconn.is_busy():
        _await_input(connection)
    result = pgconn.get_result()
    if result is None or result.status != wanted:
        if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
        raise OperationalError(f"COPY was answered with {result and result.status}")
    if wanted == pq.ExecStatus.COMMAND_OK:
        while pgconn.get_result() is not None:
            pass


def _await_input(connection: Connection) -> None:
    readable = poll()  # unlike select(), of any descriptor
    readable.register(connection.pgconn.socket, POLLIN)
    readable.poll()
    connection.pgconn.consume_input()
