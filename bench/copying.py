"""First load and incremental sync against the two ways in which one would copy tables without a sync.

Both rivals copy the same tables into tables of the same kind. They are favoured: they compute no local
days, keep no marks, write no control totals, and may see each table at another moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.harness import OURS, Comparison, Context, take_turns
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.ingestion.tables import RAW, TABLES, SyncedTable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

COPY = "bench_copy"
TABLE_FUNCTION = "insert select from postgresql()"
PANDAS = "pandas read_sql + insert_df"
FULL = "full reload"
_WRITTEN_BY_SYNC = ("version", "is_deleted")
_CHECK_IN = """
    checked_in_at = case when status = 'active' then purchased_at + interval '1 hour' else checked_in_at end,
    status = case when status = 'active' then 'checked_in' else status end
"""


def first_load(context: Context) -> Comparison:
    """Everything in PostgreSQL into an empty ClickHouse."""
    settings = context.settings
    with closing(clickhouse.connect(settings.clickhouse)) as client:

        def empty(_: str) -> None:
            forget_sync(settings, client)
            make_copies(client)

        seconds = take_turns(
            {
                OURS: lambda: _sync(settings),
                TABLE_FUNCTION: lambda: by_table_function(settings, client),
                PANDAS: lambda: by_pandas(settings, client),
            },
            context.runs,
            context.progress,
            before=empty,
        )
        rows = copied_rows(client, COPY)
        empty(OURS)
        _sync(settings)
        ours = copied_rows(client, RAW)
        assert ours == rows, f"the contestants copied different numbers of rows: {ours} and {rows}"
        client.command(f"drop database {COPY} sync")
    return Comparison(
        "first load", context.scale, f"{rows:,} rows in {len(TABLES)} tables", seconds, context.runs,
        aim={TABLE_FUNCTION: 1.5, PANDAS: 5.0},
        note="the sync also computes local days, takes one snapshot of all tables and writes control totals",
    )  # fmt: skip


def incremental(context: Context) -> Comparison:
    """One percent of the rows of every table changed; the rival reads everything again."""
    settings = context.settings
    changed = 0
    turn = 0

    def change(_: str) -> None:
        nonlocal changed, turn
        changed = change_one_percent(settings, turn)
        turn += 1

    with closing(clickhouse.connect(settings.clickhouse)) as client:
        forget_sync(settings, client)
    _sync(settings)
    seconds = take_turns(
        {OURS: lambda: _sync(settings), FULL: lambda: _sync(settings, full=True)},
        context.runs,
        context.progress,
        before=change,
    )
    return Comparison(
        "incremental sync of 1 %",
        context.scale,
        f"{changed:,} changed rows",
        seconds,
        context.runs,
        aim={FULL: 10.0},
    )


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


def make_copies(client: Client) -> None:
    """Empty tables of the kind that the sync fills, for the rivals."""
    client.command(f"drop database if exists {COPY} sync")
    client.command(f"create database {COPY}")
    for table in TABLES:
        client.command(f"create table {COPY}.{table.target} as {table.raw}")


def copied_rows(client: Client, database: str) -> int:
    return sum(
        int(client.query(f"select count() from {database}.{table.target}").result_rows[0][0])
        for table in TABLES
    )


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
