"""ClickHouse's numbers against what the server says itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.observability.exporter.clickhouse import ClickHouseInternals
from bilten_orchestration.settings import ServeSettings, Settings
from bilten_orchestration.stores import clickhouse
from tests.integration.observability.exporter.conftest import series
from tests.stack import ClickHouseServer
from tests.waiting import until

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with closing(clickhouse.connect(settings.clickhouse)) as found:
        found.command("create database metrics_test")
        yield found
        found.command("drop database metrics_test")


def test_tables_parts_and_queries(settings: Settings, client: Client) -> None:
    top = settings.model_copy(update={"serve": ServeSettings(metrics_top=200)})
    source = ClickHouseInternals(top)
    before = series(source)
    client.command(
        "create table metrics_test.t (n UInt32, d Date) engine = MergeTree order by n partition by d"
    )
    client.command("system stop merges metrics_test.t")
    for number in range(4):
        client.command(
            f"insert into metrics_test.t select number, '2026-01-0{1 + number // 3}' from numbers(1000)"
        )
    with pytest.raises(Exception, match="UNKNOWN_TABLE"):
        client.query("select * from metrics_test.nothing")
    found = series(source)
    table = ("metrics_test", "t")
    ((size, rows, parts),) = client.query(
        "select sum(bytes_on_disk), sum(rows), count() from system.parts"
        " where active and database = 'metrics_test'"
    ).result_rows
    assert found["clickhouse_table_size_bytes", *table] == size > 0
    assert found["clickhouse_table_rows", *table] == rows == 4000
    assert found["clickhouse_table_parts", *table] == parts == 4
    assert found["clickhouse_table_parts_per_partition_max", *table] == 3
    assert found["clickhouse_parts_per_partition_max",] >= 3
    assert found["clickhouse_tables",] == before["clickhouse_tables",] + 1
    inserted = "clickhouse_inserted_rows_total"
    assert found[inserted,] - before[inserted,] >= 4000
    for counted, least in (("insert_queries", 4), ("queries_failed", 1), ("queries", 6)):
        key = (f"clickhouse_{counted}_total",)
        assert found[key] - before[key] >= least, counted
    total, free = client.query(
        "select total_space, unreserved_space from system.disks where name = 'default'"
    ).result_rows[0]
    assert found["clickhouse_disk_size_bytes", "default"] == total
    assert found["clickhouse_disk_free_bytes", "default"] == pytest.approx(free, rel=0.2)
    limit = client.query(
        "select value from system.server_settings where name = 'max_server_memory_usage'"
    ).result_rows[0][0]
    assert found["clickhouse_memory_limit_bytes",] == float(limit)
    assert 0 < found["clickhouse_memory_bytes",] < float(limit)
    assert found["clickhouse_parts_per_partition_limit",] == 3000


def test_builds_of_a_mart_are_one_series(settings: Settings, client: Client) -> None:
    for build in ("a1b2", "c3d4"):
        client.command(
            f"create table metrics_test.fct_x__build_{build} engine = MergeTree order by n"
            " as select number as n from numbers(10)"
        )
    found = series(ClickHouseInternals(settings))
    assert found["clickhouse_table_rows", "metrics_test", "fct_x__build"] == 20
    assert not [key for key in found if "a1b2" in key[-1]]


def test_a_mutation_that_fails(settings: Settings, client: Client) -> None:
    client.command("create table metrics_test.m (n UInt32, v UInt32) engine = MergeTree order by n")
    client.command("insert into metrics_test.m select number, 0 from numbers(10)")
    source = ClickHouseInternals(settings)
    assert series(source)["clickhouse_mutations_pending",] == 0
    client.command(
        "alter table metrics_test.m update v = throwIf(n = 5) + 1 where 1", settings={"mutations_sync": 0}
    )
    until(lambda: series(source)["clickhouse_mutations_failing",] == 1, "it has failed once")
    found = series(source)
    assert found["clickhouse_mutations_pending",] == 1
    assert found["clickhouse_oldest_mutation_age_seconds",] >= 0
    client.command("kill mutation where database = 'metrics_test' sync")
    until(lambda: series(source)["clickhouse_mutations_pending",] == 0, "it is gone")


def test_only_the_largest_have_series_of_their_own(settings: Settings, client: Client) -> None:
    for number in range(3):
        client.command(
            f"create table metrics_test.s{number} engine = MergeTree order by n"
            f" as select number as n, rand() as r from numbers({1000 * 10**number})"
        )
    one = settings.model_copy(update={"serve": ServeSettings(metrics_top=1)})
    found = series(ClickHouseInternals(one))
    assert len([key for key in found if key[0] == "clickhouse_table_rows"]) == 1
    assert found["clickhouse_tables",] >= 3
    assert (
        found["clickhouse_data_size_bytes",]
        >= found[next(key for key in found if key[0] == "clickhouse_table_size_bytes")]
    )


def test_a_server_that_went_and_came_back(own_clickhouse: ClickHouseServer, tmp_path: Path) -> None:
    """The connection is kept between two looks, and made anew after one that failed."""
    source = ClickHouseInternals(Settings(home=tmp_path, clickhouse=own_clickhouse.settings))
    started = series(source)["clickhouse_start_timestamp_seconds",]
    assert source._client is not None
    own_clickhouse.kill()
    with pytest.raises(StoreUnavailable):
        source.read()
    assert source._client is None
    own_clickhouse.start()
    assert series(source)["clickhouse_start_timestamp_seconds",] >= started
