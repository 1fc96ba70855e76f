"""kill -9 of the sync at each of its steps, and of the servers under it: the next call makes it equal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.ingestion.sync import reconcile, sync
from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import Settings
from tests import stack
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import NOON, Shop
from tests.kills import killed_when_told

# what the sync says when it has come so far; it dies in that very line
STEPS = (
    "snapshot of",
    "events have another time zone",
    "days touched",
    "applied users.organizations",
    "applied events.events",
    "applied payments.payments",
    "applied payments.refunds",
    "control totals of",
    "is whole in ClickHouse",
    r"batch \d+ applied",
)


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_an_incremental_batch(
    settings: Settings, shop: Shop, ask: Ask, step: str, equal: Callable[[], None]
) -> None:
    """The batch moves a payment's children, a whole time zone, and takes rows away: before and after days."""
    order = shop.order(tickets=2)
    gone = shop.order(datetime(2026, 3, 15, 23, 30, tzinfo=UTC))
    shop.refund(order, NOON + timedelta(days=4), ticket=order.tickets[0], amount="5.00")
    first = sync(settings)

    shop.set("users.organizations", shop.organization, timezone="Pacific/Auckland")
    shop.set("payments.payments", gone.payment, deleted_at=NOON)
    shop.set("tickets.tickets", order.tickets[1], status="cancelled", cancelled_at=NOON + timedelta(days=6))
    comp = shop.free_ticket(NOON + timedelta(days=8), complimentary=True)
    killed_when_told(lambda told: sync(settings, progress=told), step)
    # something more happens before the next run, on the same rows too
    shop.delete("tickets.tickets", comp)
    shop.order(NOON + timedelta(days=9))
    report = sync(settings)

    assert report.batch > first.batch + 1
    moved = {date(2026, 3, day) for day in (10, 11, 14, 15, 16)}
    new = {date(2026, 3, 17), date(2026, 3, 20)}
    dirty = {
        row[0]
        for row in shop.connection.execute("select day from system.metric_dirty_days where generation > 0")
    }
    assert moved | new <= dirty
    if step != r"batch \d+ applied":
        assert moved | new <= set(report.touched_days)
    assert shop.connection.execute(
        "select applying_batch, touched_days, rereading from system.sync_state"
    ).fetchone() == (None, None, [])
    equal()


def test_killed_when_whole_in_clickhouse_alone_and_the_next_one_before_that(
    settings: Settings, shop: Shop, equal: Callable[[], None]
) -> None:
    """Then ClickHouse's newest batch is neither PostgreSQL's last nor the one that it was applying."""
    sync(settings)
    shop.order()
    killed_when_told(lambda told: sync(settings, progress=told), "is whole in ClickHouse")
    shop.order(NOON + timedelta(days=1))
    killed_when_told(
        lambda told: sync(settings, progress=told), "applied users.organizations|applied payments.payments"
    )
    report = sync(settings)
    assert {date(2026, 3, 10), date(2026, 3, 11)} <= set(report.touched_days)
    equal()


@pytest.mark.parametrize("step", ["snapshot of", "days touched", "applied payments.payments", "is whole in"])
def test_killed_in_the_first_load(
    settings: Settings, shop: Shop, step: str, equal: Callable[[], None]
) -> None:
    order = shop.order(amount="13.00", tickets=3)
    killed_when_told(lambda told: sync(settings, progress=told), step)
    shop.set("payments.payments", order.payment, deleted_at=NOON)
    report = sync(settings)
    assert date(2026, 3, 10) in report.touched_days
    equal()


def test_clickhouse_killed_in_the_middle_of_a_batch(
    settings: Settings, own_clickhouse: stack.ClickHouseServer, shop: Shop
) -> None:
    here = settings.model_copy(update={"clickhouse": own_clickhouse.settings})
    runner.up(here, store="clickhouse", anew=True)
    sync(here)
    for number in range(20):
        shop.order(NOON + timedelta(days=number), tickets=2)

    def kill(text: str) -> None:
        if text == "applied payments.payments":
            own_clickhouse.kill()

    with pytest.raises(StoreUnavailable, match="ClickHouse went away"):
        sync(here, progress=kill)
    own_clickhouse.start()
    assert len(sync(here).touched_days) == 20
    assert reconcile(here).equal


def test_postgres_killed_in_the_middle_of_a_batch(
    settings: Settings, own_postgres: stack.PostgresServer, servers: object
) -> None:
    from bilten_orchestration.partitions.postgres.premake import premake
    from tests.integration.ingestion.shop import owner

    here = settings.model_copy(update={"postgres": own_postgres.settings()})
    runner.up(here, store="postgres")
    premake(here)
    with owner(here) as connection:
        shop = Shop(connection).open()
        sync(here)
        shop.order(tickets=2)

    def kill(text: str) -> None:
        if text == "applied payments.payments":
            own_postgres.kill()

    with pytest.raises(StoreUnavailable, match="PostgreSQL went away"):
        sync(here, progress=kill)
    own_postgres.start()
    assert set(sync(here).touched_days) == {date(2026, 3, 10)}
    assert reconcile(here).equal
