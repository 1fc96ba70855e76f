"""The analytics schema on a real server: every step back, every comment, and the known traps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from bilten_orchestration.migrations import runner
from bilten_orchestration.migrations.files import discover
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

VERSIONS = [migration.version for migration in discover()["clickhouse"]]
DATABASES = ("analytics", "bilten_raw", "bilten_stage", "staging", "intermediate", "marts")
# the server's own, and what it keeps for a table under another name
_UUIDS = re.compile(r" UUID '[0-9a-f-]+'")


def describe(client: Client) -> dict[str, list[str]]:
    """Databases, tables with their whole definition, columns, functions; sorted, without what differs per
    creation. Users and grants are the server's own set-up: no migration writes them."""
    own = f"in {DATABASES!r}"
    queries = {
        "databases": f"select concat(name, ' ', engine, ' ', comment) from system.databases where name {own}",
        "tables": f"""
            select concat_ws(' ', database, name, create_table_query, sorting_key, partition_key, comment)
            from system.tables where database {own}
        """,
        "columns": f"""
            select concat_ws(' ', database, table, name, type, default_kind, default_expression, comment,
                             toString(position))
            from system.columns where database {own}
        """,
        "functions": "select create_query from system.functions where origin = 'SQLUserDefined'",
    }
    return {
        kind: sorted(_UUIDS.sub("", str(text)) for (text,) in client.query(query).result_rows)
        for kind, query in queries.items()
    }


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A migrated server."""
    connected = clickhouse.connect(settings.clickhouse)
    yield connected
    connected.close()


def test_each_step_back_is_the_schema_before_it_and_forth_again_the_one_after(
    empty_settings: Settings,
) -> None:
    client = clickhouse.connect(empty_settings.clickhouse)
    at = {0: describe(client)}
    assert not any(at[0].values())
    for version in VERSIONS:
        runner.up(empty_settings, store="clickhouse", target=version)
        at[version] = describe(client)
        assert at[version] != at[version - 1], f"V{version:04d} changed nothing that the server shows"
        runner.down(empty_settings, store="clickhouse", target=version - 1, execute=True)
        assert describe(client) == at[version - 1], f"V{version:04d}.down"
        runner.up(empty_settings, store="clickhouse", target=version)
        assert describe(client) == at[version], f"V{version:04d}.up a second time"
    runner.down(empty_settings, store="clickhouse", target=0, execute=True)
    assert not any(describe(client).values())
    runner.up(empty_settings, store="clickhouse")
    assert describe(client) == at[VERSIONS[-1]]


def test_the_comparison_sees(empty_settings: Settings) -> None:
    client = clickhouse.connect(empty_settings.clickhouse)
    runner.up(empty_settings, store="clickhouse")
    table = "bilten_raw.users_organizations"
    changes = {
        "alter database bilten_stage modify comment 'other'": "databases",
        f"alter table {table} modify comment 'other'": "tables",
        f"alter table {table} comment column name 'other'": "columns",
        f"alter table {table} modify column name LowCardinality(String)": "columns",
        f"alter table {table} modify column name String codec(ZSTD(3))": "tables",
        f"alter table {table} modify setting non_replicated_deduplication_window = 10": "tables",
        f"alter table {table} modify ttl toDateTime(created_at) + interval 1 year": "tables",
        f"alter table {table} add index by_name name type bloom_filter": "tables",
        f"alter table {table} add constraint named check name <> ''": "tables",
        "create table bilten_stage.left_behind (id UUID) engine = MergeTree order by id": "tables",
        "create function doubled as x -> x * 2": "functions",
    }
    unseen = []
    before = describe(client)
    try:
        for change, kind in changes.items():
            client.command(change)
            after = describe(client)
            if after[kind] == before[kind]:
                unseen.append(change)
            before = after
    finally:
        client.command("drop function if exists doubled")
    assert unseen == []


def test_every_database_that_is_made_is_looked_at(client: Client) -> None:
    made = client.query(
        "select name from system.databases"
        " where lower(name) not in ('system', 'default', 'information_schema')"
    ).result_rows
    assert {name for (name,) in made} == set(DATABASES)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_every_script_may_be_run_twice(empty_settings: Settings, direction: str) -> None:
    """A half-run migration is run again from its first statement."""
    client = clickhouse.connect(empty_settings.clickhouse)
    migrations = discover()["clickhouse"]
    for migration in migrations:
        for statement in (*migration.up.statements, *(migration.up.statements if direction == "up" else ())):
            client.command(statement.text)
    before = describe(client)
    assert before["tables"]
    if direction == "down":
        for migration in reversed(migrations):
            for statement in (*migration.down.statements, *migration.down.statements):
                client.command(statement.text)
        assert not any(describe(client).values())


def test_every_database_table_and_column_is_described(client: Client) -> None:
    query = f"""
        select name from system.databases where name in {DATABASES!r} and comment = ''
        union all
        select concat(database, '.', name) from system.tables
        where database in ('analytics', 'bilten_raw') and comment = ''
        union all
        select concat(c.database, '.', c.table, '.', c.name)
        from system.columns c join system.tables t on t.database = c.database and t.name = c.table
        where c.database in ('analytics', 'bilten_raw') and c.comment = '' and t.engine <> 'MaterializedView'
    """
    assert client.query(query).result_rows == []


def test_no_sort_key_is_nullable(client: Client) -> None:
    query = """
        select database, table, name from system.columns
        where is_in_sorting_key and type like '%Nullable%' and database in ('analytics', 'bilten_raw')
    """
    assert client.query(query).result_rows == []


def test_every_table_drops_a_repeated_insert(client: Client) -> None:
    """On the targets of materialized views too: their window is their own."""
    query = """
        select database, name from system.tables
        where database in ('analytics', 'bilten_raw') and engine like '%MergeTree'
          and not match(create_table_query, 'non_replicated_deduplication_window = [1-9]')
    """
    assert client.query(query).result_rows == []


def test_raw_tables_are_replaced_by_batch_and_hide_deletes(client: Client) -> None:
    rows = client.query(
        "select name, engine_full from system.tables where database = 'bilten_raw'"
    ).result_rows
    assert len(rows) == 14
    for name, engine in rows:
        assert engine.startswith("ReplacingMergeTree(version, is_deleted)"), name


def test_nothing_personal_has_a_column(client: Client) -> None:
    """Addresses of venues are of places."""
    query = """
        select database, table, name from system.columns
        where database in ('analytics', 'bilten_raw')
          and match(name, 'email|phone|password|first_name|last_name|birth|gateway|profile|token')
          and name <> 'email_verified'
    """
    assert client.query(query).result_rows == []


def test_raw_columns_hold_what_postgres_sends(client: Client, settings: Settings) -> None:
    """Every raw column but the sync's own is a column of the operational table, with room for its values."""
    from bilten_orchestration.stores import postgres

    allowed = {
        "uuid": {"UUID"},
        "text": {"String"},
        "character varying": {"String"},
        "character": {"String"},
        "USER-DEFINED": {"String"},
        "jsonb": {"String"},
        "ARRAY": {"Array(String)"},
        "boolean": {"Bool"},
        "integer": {"Int32"},
        "smallint": {"Int16"},
        "date": {"Date32"},
        "timestamp with time zone": {"DateTime64(6, 'UTC')"},
    }
    with postgres.connect(settings.postgres) as connection:
        operational = {
            (f"{schema}_{table}", column): (kind, precision, scale, nullable == "YES")
            for schema, table, column, kind, precision, scale, nullable in connection.execute(
                """
                select table_schema, table_name, column_name, data_type, numeric_precision, numeric_scale,
                       is_nullable
                from information_schema.columns
                """
            ).fetchall()
        }
    wrong = []
    for table, column, kind in client.query(
        "select table, name, type from system.columns where database = 'bilten_raw'"
    ).result_rows:
        if column in ("version", "is_deleted") or column.endswith("_local_date"):
            continue
        if column.endswith("_date") and (table, column) not in operational:
            continue
        source = operational.get((table, column))
        bare = kind.replace("LowCardinality(", "").replace("Nullable(", "").rstrip(")")
        if source is None:
            wrong.append(f"{table}.{column} is no operational column")
            continue
        expected = (
            {f"Decimal({source[1]}, {source[2]}"}
            if source[0] == "numeric"
            else {t.rstrip(")") for t in allowed[source[0]]}
        )
        if bare not in expected:
            wrong.append(f"{table}.{column}: {source[0]} as {kind}")
        if source[3] and "Nullable" not in kind:
            wrong.append(f"{table}.{column}: nullable in PostgreSQL, not in ClickHouse")
    assert wrong == []
