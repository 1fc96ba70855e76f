"""Checks of the copies in ClickHouse: they pass on what the sync brought, and fail on what it did not."""

from __future__ import annotations

from contextlib import closing

import dagster as dg
import pytest

from bilten_orchestration.ingestion import checks
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from bilten_orchestration.stores.resources import Platform
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.world import FIRST, World, later


def judged(world: World, *found: dg.AssetChecksDefinition) -> dict[str, dg.AssetCheckEvaluation]:
    """Those that failed, by asset and name."""
    job = dg.Definitions(
        asset_checks=found,
        jobs=[dg.define_asset_job("checks", selection=dg.AssetSelection.checks(*found))],
        resources={"platform": Platform(world.settings)},
    ).resolve_job_def("checks")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance)
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == sum(len(each.check_keys) for each in found)
    return {
        f"{each.asset_key.to_user_string()}:{each.check_name}": each
        for each in evaluations
        if not each.passed
    }


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_rows_totals_and_clicks(world: World) -> None:
    everything = (checks.equal_to_postgres, checks.cells_are_whole, checks.nothing_from_the_future)
    world.trade(FIRST, later(FIRST, 1)).sync()
    assert judged(world, *everything) == {}
    with owner(world.settings) as connection:
        connection.execute("alter table payments.payments disable trigger user")
        # as no application can: without the trigger no mark tells of it
        connection.execute("update payments.payments set amount = amount + 1")
        connection.execute("alter table payments.payments enable trigger user")
    with closing(clickhouse.connect(world.settings.clickhouse)) as client:
        client.command("alter table analytics.control_totals delete where 1 settings mutations_sync = 1")
        client.command(
            "insert into analytics.events (click_id, timestamp)"
            " values (generateUUIDv4(), now() + interval 1 day)"
        )
    failed = judged(world, *everything)
    assert set(failed) == {
        "raw/payments_payments:equal_to_postgres",
        "analytics/control_days:cells_are_whole",
        "analytics/events:nothing_from_the_future",
    }
    assert failed["raw/payments_payments:equal_to_postgres"].metadata["changed"].value > 0


def test_a_clickstream_that_is_silent_warns_and_then_fails(settings: Settings) -> None:
    def judge() -> tuple[bool, str, object]:
        found = checks.clicks_arrive(dg.build_asset_check_context(), Platform(settings))
        assert isinstance(found, dg.AssetCheckResult)
        return bool(found.passed), found.severity.value, found.metadata["clicks_of_four_days"].value

    assert judge() == (False, "ERROR", 0)
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        # ever younger ones; that of a day long ago arrived just now, and none of the writer's can
        for happened, arrived, expected in (
            ("9 day", "0 hour", (False, "ERROR", 0)),
            ("30 hour", "25 hour", (False, "ERROR", 1)),
            ("25 hour", "7 hour", (False, "WARN", 2)),
            ("60 hour", "5 hour", (True, "WARN", 3)),
        ):
            client.command(
                "insert into analytics.events (click_id, timestamp, ingested_at) select generateUUIDv4(),"
                f" now64(3) - interval {happened}, now64(3) - interval {arrived}"
            )
            assert judge() == expected, (happened, arrived)
