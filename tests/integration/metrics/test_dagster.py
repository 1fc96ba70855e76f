"""The Dagster face, run against real stores: partitions, checks, refused days, the sensor."""

from __future__ import annotations

from datetime import date

import dagster as dg

from bilten_orchestration.definitions import assemble
from bilten_orchestration.metrics.schedules import RANGE_END, RANGE_START
from tests.integration.metrics.world import FIRST, World, later

SALES = dg.AssetKey(["marts", "fct_event_sales_daily"])


def run(
    world: World, instance: dg.DagsterInstance, job: str, first: date, last: date
) -> dg.ExecuteInProcessResult:
    found = assemble(world.settings).get_job_def(job)
    return found.execute_in_process(
        instance=instance, tags={RANGE_START: str(first), RANGE_END: str(last)}, raise_on_error=False
    )


def test_a_range_is_one_run_with_rows_per_day(world: World) -> None:
    world.trade(FIRST, later(FIRST, 2)).sync()
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(world, instance, "metrics_late_days", FIRST, later(FIRST, 2))
        for event in result.all_events:
            if event.is_failure or event.event_type_value in (
                "ASSET_MATERIALIZATION",
                "ASSET_CHECK_EVALUATION",
            ):
                print(
                    event.event_type_value,
                    str(event.message)[:200],
                    event.partition if event.is_asset_materialization or 1 else "",
                )
        assert result.success
        found = [
            event for event in result.all_events if event.is_step_materialization and event.asset_key == SALES
        ]
        assert sorted(event.partition for event in found) == [str(later(FIRST, n)) for n in range(3)]
        print(found[0].step_materialization_data.materialization.metadata)
        assert {
            event.step_materialization_data.materialization.metadata["rows"].value for event in found
        } == {2}
