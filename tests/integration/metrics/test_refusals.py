"""A valid base, one change, one refusal: what must not be built from, and who may not build at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from bilten_orchestration.errors import BiltenError, LockHeld, Refused, UsageError
from bilten_orchestration.metrics.opened import open_build
from bilten_orchestration.settings import MetricsSettings, Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.locks import advisory_lock
from tests.integration.metrics.world import FIRST, World, later


def opened(settings: Settings, *days: object) -> str:
    """Open and leave a build; its id."""
    with open_build(settings, days or [FIRST]) as build:  # type: ignore[arg-type]
        return build.build_id


def no_row(world: World) -> None:
    client = clickhouse.connect(world.settings.clickhouse)
    client.command("truncate table analytics.sync_batches")
    client.close()


def half_applied(world: World) -> None:
    with postgres.connect(world.settings.postgres, "etl", autocommit=True) as connection:
        connection.execute("update system.sync_state set applying_batch = batch + 1")


def newer_row(world: World) -> None:
    client = clickhouse.connect(world.settings.clickhouse)
    client.command(
        "insert into bilten_raw.events_events"
        " select * replace (version + 7 as version) from bilten_raw.events_events"
    )
    client.close()


def no_controls(world: World) -> None:
    client = clickhouse.connect(world.settings.clickhouse)
    client.command("truncate table analytics.control_days")
    client.close()


@pytest.fixture
def synced(world: World) -> World:
    world.trade(FIRST, FIRST).sync()
    return world


def test_the_base_opens_and_is_resumed_when_it_was_left(synced: World) -> None:
    assert opened(synced.settings) == opened(synced.settings)
    assert opened(synced.settings, FIRST, later(FIRST, 1)) != opened(synced.settings)


@pytest.mark.parametrize(
    ("change", "told", "helps"),
    [
        (no_row, "not recorded as whole", "bilten sync --full"),
        (half_applied, "half applied", "bilten sync"),
        (newer_row, "raw rows are newer than batch", "bilten sync"),
        (no_controls, "no control totals", "bilten sync --full"),
    ],
)
def test_nothing_is_built_from_a_broken_batch(
    synced: World, change: Callable[[World], None], told: str, helps: str
) -> None:
    change(synced)
    with pytest.raises(Refused, match=told) as refused:
        opened(synced.settings)
    assert helps in refused.value.problems[0].next


def test_nothing_is_built_before_the_first_sync(stores: Settings) -> None:
    with pytest.raises(Refused, match="no sync has run yet"):
        opened(stores)


def test_days_of_the_future_and_before_the_first_control_totals(synced: World) -> None:
    ahead = datetime.now(UTC).date() + timedelta(days=3)
    with pytest.raises(Refused, match="in the future"):
        opened(synced.settings, FIRST, ahead)
    with pytest.raises(Refused, match="before the first day that has control totals"):
        opened(synced.settings, datetime(1999, 1, 1).date(), FIRST)
    with pytest.raises(UsageError, match="no days"), open_build(synced.settings, []):
        pass


def test_days_whose_clicks_are_archived(synced: World) -> None:
    """They would be built without a click, and a right day be replaced by a wrong one."""
    with postgres.connect(synced.settings.postgres, autocommit=True) as connection:
        connection.execute(
            "insert into system.partition_metadata (table_name, partition_name, from_at, to_at, state)"
            " values ('analytics.events', 'gone', date_trunc('month', %s::timestamptz),"
            " date_trunc('month', %s::timestamptz) + interval '1 month', 'dropped')",
            (FIRST, FIRST),
        )
        with pytest.raises(Refused, match="were archived and dropped") as refused:
            opened(synced.settings)
        assert f"restore analytics.events {FIRST:%Y-%m}" in refused.value.problems[0].next
        connection.execute(
            "update system.partition_metadata set state = 'attached' where partition_name = 'gone'"
        )
    assert opened(synced.settings)


def test_two_builders_exclude_each_other_and_the_holder_is_named(synced: World) -> None:
    impatient = synced.settings.model_copy(update={"metrics": MetricsSettings(lock_wait_seconds=0)})
    with (
        open_build(synced.settings, [FIRST], run_id="3f6c0c5e-run"),
        pytest.raises(LockHeld, match="bilten build 3f6c0c5e"),
    ):
        opened(impatient)


def test_a_batch_that_is_being_applied_is_waited_for(synced: World) -> None:
    impatient = synced.settings.model_copy(update={"metrics": MetricsSettings(lock_wait_seconds=0)})
    with (
        postgres.connect(
            synced.settings.postgres, "etl", application_name="bilten sync", autocommit=True
        ) as other,
        advisory_lock(other, "sync"),
        pytest.raises(LockHeld, match="bilten sync"),
    ):
        opened(impatient)


def test_a_build_that_lost_its_session_is_not_closed(synced: World) -> None:
    def lose_the_session() -> None:
        with open_build(synced.settings, [FIRST]) as build:
            with postgres.connect(synced.settings.postgres, "owner", autocommit=True) as owner:
                ended = owner.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where application_name = 'bilten build' and datname = current_database()"
                ).fetchone()
                assert ended == (True,)
            build.close()

    with pytest.raises(BiltenError, match="closed the session"):
        lose_the_session()
