"""First load and incremental sync against the two ways in which one would copy tables without a sync.

Both rivals copy the same tables into tables of the same kind and columns; after each turn rows and exact
sums of amounts are compared with PostgreSQL's. They are favoured: they compute no local days, keep no
marks, write no control totals, and may see each table at another moment. So the first load is shown
twice: the whole sync, and its rows alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.harness import OURS, Comparison, Context, merge, take_turns
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.ingestion import schema, source
from bilten_orchestration.ingestion.staging import Staging
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.ingestion.tables import RAW, TABLES, SyncedTable
from bilten_orchestration.ingestion.transfer import Reader, clear_stage, empty_stage, take_stage
from bilten_orchestration.progress import silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

COPY = "bench_copy"
TABLE_FUNCTION = "insert select from postgresql()"
PANDAS = "pandas read_sql + insert_df"
FULL = "full reload"
ROWS = f"{OURS}, rows alone"
Change = Callable[[Settings, int], int]
_WRITTEN_BY_SYNC = ("version", "is_deleted")
_CHECK_IN = """
    checked_in_at = case when status = 'active' then purchased_at + interval '1 hour' else checked_in_at end,
    status = case when status = 'active' then 'checked_in' else status end
"""


def first_load(context: Context) -> list[Comparison]:
    """Everything in PostgreSQL into an empty ClickHouse: the whole sync, and its rows alone."""
    settings = context.settings
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        wanted = Contents.of_postgres(settings, client)

        def empty(_: str) -> None:
            forget_sync(settings, client)
            make_copies(client)
            merge(client)

        def same(contestant: str) -> None:
            wanted.expect(contestant, Contents.of_copies(client, RAW if contestant in (OURS, ROWS) else COPY))

        seconds = take_turns(
            {
                OURS: lambda: _sync(settings),
                ROWS: lambda: rows_alone(settings, client),
                TABLE_FUNCTION: lambda: by_table_function(settings, client),
                PANDAS: lambda: by_pandas(settings, client),
            },
            context.runs,
            context.progress,
            before=empty,
            after=same,
        )
        client.command(f"drop database {COPY} sync")
        forget_sync(settings, client)
    size = f"{sum(wanted.rows.values()):,} rows in {len(TABLES)} tables"
    rivals = {name: seconds[name] for name in (TABLE_FUNCTION, PANDAS)}
    return [
        Comparison(
            "first load", context.scale, size, {OURS: seconds[OURS], **rivals}, context.runs,
            aim={TABLE_FUNCTION: 1.5, PANDAS: 5.0},
            note="the sync also computes local days and control totals, in one snapshot; on two cores the "
            "rivals leave one of them idle for half of the time, the sync keeps both busy",
        ),
        Comparison(
            "first load, rows alone", context.scale, size, {OURS: seconds[ROWS], **rivals}, context.runs,
            note="the same without control totals, touched days and marks; local days are still computed",
        ),
    ]  # fmt: skip


def incremental(context: Context) -> list[Comparison]:
    """One percent of the rows of every table changed; the rival reads everything again.

    Once scattered over all of history, which touches a large part of all days, and once the newest rows.
    """
    settings = context.settings
    turns = itertools.count()
    client = clickhouse.connect(settings.clickhouse)
    forget_sync(settings, client)
    _sync(settings)
    found = []
    for which, change in (("scattered", change_one_percent), ("newest", change_newest_percent)):
        changed = days = 0

        def before(_: str, change: Change = change) -> None:
            nonlocal changed
            merge(client)
            changed = change(settings, next(turns))

        def ours() -> None:
            nonlocal days
            days = len(sync(settings).touched_days)

        seconds = take_turns(
            {OURS: ours, FULL: lambda: _sync(settings, full=True)},
            context.runs,
            context.progress,
            before=before,
        )
        found.append(
            Comparison(
                f"incremental sync of 1 %, {which}",
                context.scale,
                f"{changed:,} changed rows, {days} days",
                seconds,
                context.runs,
                aim={FULL: 10.0},
                note="control totals of every touched day are computed anew in PostgreSQL, from all its rows",
            )
        )
    client.close()
    return found


@dataclass(frozen=True, slots=True)
class Contents:
    """Rows per table, and exact sums per amount column."""

    rows: Mapping[str, int]
    sums: Mapping[str, str]

    @classmethod
    def of_postgres(cls, settings: Settings, client: Client) -> Contents:
        rows, sums = {}, {}
        with postgres.connect(settings.postgres) as connection:
            for table in TABLES:
                amounts = _amounts(client, table)
                listed = "".join(f", coalesce(sum({name}), 0)" for name in amounts)
                row = connection.execute(f"select count(*){listed} from {table.source}").fetchone()
                assert row is not None
                rows[table.source] = int(row[0])
                for name, value in zip(amounts, row[1:], strict=True):
                    sums[f"{table.source}.{name}"] = f"{value:f}"
        return cls(rows, _rounded(sums))

    @classmethod
    def of_copies(cls, client: Client, database: str) -> Contents:
        rows, sums = {}, {}
        for table in TABLES:
            amounts = _amounts(client, table)
            listed = "".join(f", toString(sum({name}))" for name in amounts)
            row = client.query(f"select count(){listed} from {database}.{table.target}").result_rows[0]
            rows[table.source] = int(row[0])
            for name, value in zip(amounts, row[1:], strict=True):
                sums[f"{table.source}.{name}"] = str(value)
        return cls(rows, _rounded(sums))

    def expect(self, contestant: str, found: Contents) -> None:
        """Raises Mismatch with every table and sum in which a contestant's copy differs."""
        problems = [
            Problem(f"{name}, as copied by {contestant}", expected=str(wanted), found=str(other[name]))
            for mine, other in ((self.rows, found.rows), (self.sums, found.sums))
            for name, wanted in mine.items()
            if other[name] != wanted
        ]
        if problems:
            raise Mismatch(problems)


def _amounts(client: Client, table: SyncedTable) -> list[str]:
    return [
        name
        for (name,) in client.query(
            "select name from system.columns where database = {db:String} and table = {name:String} "
            "and type like 'Decimal(%' order by position",
            parameters={"db": RAW, "name": table.target},
        ).result_rows
    ]


def _rounded(sums: Mapping[str, str]) -> dict[str, str]:
    """Without the zeros at the end, which the two sides print differently."""
    return {name: f"{Decimal(value).normalize():f}" for name, value in sums.items()}


def rows_alone(settings: Settings, client: Client) -> None:
    """The part of a first load that the rivals do: rows staged and moved, no totals, no days, no state."""
    with (
        postgres.connect(settings.postgres, "etl", autocommit=True) as connection,
        source.open_snapshot(settings) as (reading, snapshot),
    ):
        held = schema.held(client)
        plans = schema.read(connection, held)
        reader = Reader(settings, client, 1, reading, snapshot)
        staging = Staging(client, reader, plans, silent, half_applied=None)
        empty_stage(client, held)
        staging.whole(lambda _: None, first_load=True)
        for table in TABLES:
            if staging.holds(table):
                take_stage(client, table)
        clear_stage(client)


def _sync(settings: Settings, *, full: bool = False) -> None:
    sync(settings, full=full)


def forget_sync(settings: Settings, client: Client) -> None:
    """ClickHouse without a row of the sync, PostgreSQL without a mark: as before the first batch."""
    for table in TABLES:
        client.command(f"truncate table {table.raw} sync")
    for name in ("sync_batches", "control_totals", "control_days"):
        client.command(f"truncate table analytics.{name} sync")
    with postgres.connect(settings.postgres) as connection:
        connection.execute("delete from system.sync_state")
        connection.execute("delete from system.metric_dirty_days")


def change_one_percent(settings: Settings, turn: int) -> int:
    """Update another percent of the rows of each table in each turn: check-ins for tickets, else nothing new.

    Returns how many rows were updated. Updates that set what was there still pass through the triggers,
    so the sync has to read and send them.
    """
    changed = 0
    with postgres.connect(settings.postgres) as connection:
        for table in TABLES:
            key = " || ".join(f"{column}::text" for column in table.key)
            assignment = _CHECK_IN if table.name == "tickets" else f"{table.key[0]} = {table.key[0]}"
            changed += connection.execute(
                f"update {table.source} set {assignment} where abs(hashtext({key})) %% 100 = %s",
                (turn % 100,),
            ).rowcount
    return changed


def change_newest_percent(settings: Settings, turn: int) -> int:
    """The same for the newest percent of each table; in the next turn for the one before it."""
    changed = 0
    with postgres.connect(settings.postgres) as connection:
        for table in TABLES:
            keys = ", ".join(table.key)
            assignment = _CHECK_IN if table.name == "tickets" else f"{table.key[0]} = {table.key[0]}"
            changed += connection.execute(
                f"with wanted as (select (count(*) / 100)::int as rows from {table.source}) "
                f"update {table.source} set {assignment} where ({keys}) in (select {keys} "
                f"from {table.source} order by created_at desc, {keys} limit (select rows from wanted) "
                "offset (select rows from wanted) * %s)",
                (turn % 100,),
            ).rowcount
    return changed


def make_copies(client: Client) -> None:
    """Empty tables of the kind that the sync fills, for the rivals."""
    client.command(f"drop database if exists {COPY} sync")
    client.command(f"create database {COPY}")
    for table in TABLES:
        client.command(f"create table {COPY}.{table.target} as {table.raw}")


def by_table_function(settings: Settings, client: Client) -> None:
    pg = settings.postgres
    for table in TABLES:
        columns = ", ".join(_columns(client, table))
        client.command(
            f"insert into {COPY}.{table.target} ({columns}, version, is_deleted)"
            f" select {columns}, 1, 0 from postgresql('{pg.host}:{pg.port}', '{pg.database}', '{table.name}',"
            f" '{pg.user}', '{pg.password.get_secret_value()}', '{table.schema}')"
        )


def by_pandas(settings: Settings, client: Client) -> None:
    """In chunks, as one has to once a table does not fit into memory."""
    import pandas
    import sqlalchemy

    pg = settings.postgres
    engine = sqlalchemy.create_engine(
        f"postgresql+psycopg://{pg.user}:{quote(pg.password.get_secret_value())}@{pg.host}:{pg.port}/{pg.database}"
    )
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            for table in TABLES:
                for frame in _frames(pandas, connection, table, _columns(client, table)):
                    client.insert_df(f"{COPY}.{table.target}", frame)
    finally:
        engine.dispose()


def _frames(pandas: Any, connection: Any, table: SyncedTable, columns: list[str]) -> Iterator[Any]:
    listed = ", ".join(f"{column}::text" if _is_json(table, column) else column for column in columns)
    for frame in pandas.read_sql(f"select {listed} from {table.source}", connection, chunksize=100_000):
        frame["version"] = 1
        frame["is_deleted"] = 0
        yield frame


def _is_json(table: SyncedTable, column: str) -> bool:
    return column in ("settings", "metadata", "location")


def _columns(client: Client, table: SyncedTable) -> list[str]:
    local = {date.name for date in table.local_dates}
    rows = client.query(
        "select name from system.columns"
        " where database = {db:String} and table = {name:String} order by position",
        parameters={"db": RAW, "name": table.target},
    ).result_rows
    return [name for (name,) in rows if name not in local and name not in _WRITTEN_BY_SYNC]
