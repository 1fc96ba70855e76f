"""PostgreSQL, ClickHouse and what was restored of both agree, or it is told which day of a mart does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bilten_orchestration.drills import marts
from bilten_orchestration.metrics.build import build
from bilten_orchestration.progress import silent
from bilten_orchestration.settings import PostgresSettings, Settings
from bilten_orchestration.stores import clickhouse
from tests import stack
from tests.conftest import Servers
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.world import FIRST, World

LAST = FIRST + timedelta(days=1)


@pytest.fixture
def world(stores: Settings) -> Iterator[World]:
    with owner(stores) as connection:
        yield World(stores, connection).trade(FIRST, LAST)


@pytest.fixture
def copied(servers: Servers) -> Iterator[list[str]]:
    """Databases to be dropped."""
    made: list[str] = []
    yield made
    for name in made:
        servers.drop_database(name)


def _copy_of_postgres(servers: Servers, world: World, copied: list[str]) -> PostgresSettings:
    """Stands for the restored one: another database, of the same rows."""
    name = f"copy_{next(servers.numbers)}"
    world.connection.close()
    servers.create_database(name, template=world.settings.postgres.database)
    copied.append(name)
    return world.settings.postgres.model_copy(update={"database": name})


@pytest.mark.faults
def test_the_day_that_differs_and_the_one_that_is_three_times_the_same(
    servers: Servers,
    world: World,
    copied: list[str],
    own_clickhouse: stack.ClickHouseServer,
    tmp_path: Path,
) -> None:
    from bilten_orchestration.migrations import runner

    live = world.settings
    world.sync()
    build(live, FIRST, LAST, refresh_whole=False)
    restored = own_clickhouse.settings
    runner.up(live.model_copy(update={"clickhouse": own_clickhouse.settings}), store="clickhouse", anew=True)
    _fill(live, own_clickhouse)
    postgres = _copy_of_postgres(servers, world, copied)

    # a payment of the first day that the restored PostgreSQL does not have
    with (
        owner(live.model_copy(update={"postgres": postgres})) as connection,
        connection.transaction(),
    ):
        order = world.orders[FIRST]
        for table, column in (
            ("payments.payment_items", "payment_id"),
            ("tickets.tickets", "payment_id"),
            ("payments.payments", "id"),
        ):
            connection.execute(f"delete from {table} where {column} = %s", (order.payment,))  # type: ignore[arg-type]
    found = marts.agree(
        live,
        postgres=postgres,
        clickhouse=restored,
        home=tmp_path / "agree",
        reached_at=datetime.now(UTC),
        progress=silent,
    )
    assert found.compared == 2 * 5, "two days of five marts"
    assert ("fct_event_sales_daily", FIRST) in found.differ
    assert {day for _, day in found.differ} == {FIRST}, "the other day is the same three times"
    assert "fct_event_sales_daily of 2026-03-01" in marts.told(found.differ, found.compared)


def _fill(live: Settings, server: stack.ClickHouseServer) -> None:
    """Every row of the live tables, as a restore brings them back."""
    with (
        closing(clickhouse.connect(live.clickhouse)) as source,
        closing(clickhouse.connect(server.settings)) as to,
    ):
        for database, name, create in source.query(
            "select database, name, create_table_query from system.tables where has_own_data"
            " and total_rows > 0 and database in ('bilten_raw', 'analytics', 'marts')"
        ).result_rows:
            to.command(create.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1))
            rows = source.raw_query(f"select * from `{database}`.`{name}`", fmt="Native")
            to.raw_insert(f"`{database}`.`{name}`", insert_block=rows, fmt="Native")
