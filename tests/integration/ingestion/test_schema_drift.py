"""Columns that come follow; columns that go or change their type stop the sync before it writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.ingestion import sync as engine
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import Shop
from tests.kills import killed_before_line


@pytest.fixture(autouse=True)
def _columns_go_again(settings: Settings, ask: Ask) -> object:
    """The raw tables are shared by all tests, their columns too."""
    yield
    ask("select 1")
    from bilten_orchestration.stores import clickhouse

    client = clickhouse.connect(settings.clickhouse)
    for name in ("floor", "doors_at", "grid"):
        client.command(f"alter table bilten_raw.events_venues drop column if exists {name}")
    client.close()


def _venue(shop: Shop) -> None:
    shop.connection.execute(
        "insert into events.venues (name, address, city, country) values ('Hall', 'Way 1', 'Ghent', 'BE')"
    )


def _add_columns(shop: Shop) -> None:
    shop.connection.execute(
        "alter table events.venues add column floor smallint, add column doors_at timestamptz, "
        "add column grid numeric(12,4) not null default 1.5"
    )
    shop.connection.execute("comment on column events.venues.floor is 'Storey; it''s 0 at the street'")


def test_an_added_column_follows_with_the_values_of_rows_that_did_not_change(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    _venue(shop)
    sync(settings)
    _add_columns(shop)
    report = sync(settings)
    assert set(report.added_columns) == {
        "events.venues.floor",
        "events.venues.doors_at",
        "events.venues.grid",
    }
    assert report.rows == {"events.venues": 1}
    assert ask("select floor, doors_at, toString(grid) from bilten_raw.events_venues final") == [
        (None, None, "1.5")
    ]
    assert ask(
        "select name, type, comment from system.columns where database = 'bilten_raw' and table = "
        "'events_venues' "
        "and name in ('floor', 'doors_at', 'grid') order by name"
    ) == [
        ("doors_at", "Nullable(DateTime64(6, 'UTC'))", ""),
        ("floor", "Nullable(Int16)", "Storey; it's 0 at the street"),
        ("grid", "Decimal(12, 4)", ""),
    ]
    equal()


def test_a_kill_after_the_column_was_added_loses_no_value(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    _venue(shop)
    sync(settings)
    _add_columns(shop)
    follow = engine.schema.follow

    def killed_after_columns() -> None:
        import os
        import signal

        def then_die(*arguments: object) -> None:
            follow(*arguments)  # type: ignore[arg-type]
            os.kill(os.getpid(), signal.SIGKILL)

        engine.schema.follow = then_die  # type: ignore[assignment]
        sync(settings)

    assert killed_before_line(killed_after_columns, [], 1)
    assert sync(settings).rows == {"events.venues": 1}
    assert ask("select toString(grid) from bilten_raw.events_venues final") == [("1.5",)]
    equal()


def test_dropped_and_retyped_columns_are_told_together_and_nothing_is_written(
    settings: Settings, shop: Shop, ask: Ask
) -> None:
    first = sync(settings)
    shop.order()
    shop.connection.execute("alter table events.venues drop column postal_code")
    shop.connection.execute("alter table events.venues alter column capacity type bigint")
    shop.connection.execute("alter table events.events alter column title drop not null")
    shop.connection.execute("alter table tickets.ticket_types add column shape point")
    with pytest.raises(Mismatch) as refused:
        sync(settings)
    found = {problem.what: (problem.expected, problem.found) for problem in refused.value.problems}
    assert len(found) == 4
    assert found["events.venues.capacity has another type than its copy in bilten_raw.events_venues"] == (
        "Nullable(Int64), as PostgreSQL has it now",
        "Nullable(Int32)",
    )
    assert any("postal_code is gone" in what for what in found)
    assert any("title has another type" in what for what in found)
    assert any("shape has a type without an exact counterpart" in what for what in found)
    assert ask("select max(batch) from analytics.sync_batches") == [(first.batch,)]
    assert ask("select count() from bilten_raw.payments_payments") == [(0,)]


def test_personal_columns_stay_out_also_where_everything_may_be_read(settings: Settings, shop: Shop) -> None:
    shop.connection.execute("grant select on users.users, payments.payments to bilten_etl")
    assert sync(settings).added_columns == ()
