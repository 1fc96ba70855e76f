"""The Dagster face against real stores: a range in one run, a refused day, the sensor, the checks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bilten_orchestration.definitions import assemble
from bilten_orchestration.metrics.checks import no_day_is_refused
from bilten_orchestration.metrics.schedules import RANGE_END, RANGE_START
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.resources import Platform
from tests.integration.metrics.test_build import plant_a_cent
from tests.integration.metrics.world import FIRST, World, later, moment

# face.py accepts them, but pytest puts filters of its own above
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")

SALES = dg.AssetKey(["marts", "fct_event_sales_daily"])
LAST = later(FIRST, 3)
BAD = later(FIRST, 2)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def run(world: World, instance: dg.DagsterInstance, first: date, last: date) -> dg.ExecuteInProcessResult:
    repository = assemble(world.settings).get_repository_def()
    graph = repository.asset_graph
    marts = [
        key for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned and key.path[0] != "drills"
    ]
    return repository.get_job("metrics_late_days").execute_in_process(
        instance=instance,
        asset_selection=marts,
        tags={RANGE_START: str(first), RANGE_END: str(last)},
        raise_on_error=False,
    )


def run_checks(
    world: World, instance: dg.DagsterInstance, checks: list[dg.AssetCheckKey], day: date
) -> dg.ExecuteInProcessResult:
    """As `Execute` on the page of a check does."""
    repository = assemble(world.settings).get_repository_def()
    job = repository.get_job("metrics_late_days").get_subset(
        asset_selection=set(), asset_check_selection=set(checks)
    )
    return job.execute_in_process(instance=instance, partition_key=str(day))


def checks_of(
    result: dg.ExecuteInProcessResult, key: dg.AssetKey
) -> dict[tuple[str, str | None], dg.AssetCheckEvaluation]:
    found = [check for check in result.get_asset_check_evaluations() if check.asset_key == key]
    by_day = {(check.check_name, check.partition): check for check in found}
    assert len(by_day) == len(found), "a check was told twice"
    return by_day


def statuses(instance: dg.DagsterInstance, check: str) -> dict[str | None, str]:
    """Newest status per day, as the page of the check shows it; one of an older materialization is stale."""
    infos = instance.event_log_storage.get_asset_check_partition_info([dg.AssetCheckKey(SALES, check)])
    assert all(info.is_current for info in infos)
    return {info.partition_key: info.latest_execution_status.value for info in infos}


def days_of(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, dict[str, Any]]:
    """Newest materialization per partition, as plain metadata."""
    records = instance.fetch_materializations(key, limit=1000).records
    return {
        record.partition_key: {
            name: value.value for name, value in record.asset_materialization.metadata.items()
        }
        for record in reversed(records)
        if record.partition_key and record.asset_materialization
    }


def test_a_refused_day_makes_the_run_red_after_the_good_days_are_published(
    world: World, instance: dg.DagsterInstance
) -> None:
    world.trade(FIRST, LAST).sync()
    plant_a_cent(world.settings, world.orders[BAD].payment)
    red = run(world, instance, FIRST, LAST)
    assert not red.success

    # the good days are recorded with their own numbers, the refused one is not
    recorded = days_of(instance, SALES)
    assert set(recorded) == {str(day) for day in (FIRST, later(FIRST, 1), LAST)}
    assert recorded[str(FIRST)]["rows"] == 2
    assert recorded[str(FIRST)]["verdict"] == "swapped"
    assert recorded[str(FIRST)]["days_refused"] == 1
    assert recorded[str(FIRST)]["query_id"]
    lineage = recorded[str(FIRST)]["dagster/column_lineage"].deps_by_column["gross_sales"]
    assert "intermediate/int_postings" in {dep.asset_key.to_user_string() for dep in lineage}

    # every statement of dbt and of ours says which run asked for it
    with Platform(world.settings).clickhouse() as client:
        client.command("system flush logs")
        said = client.query(
            "select countIf(startsWith(query, '/* {\"app\": \"dbt\"')), countIf(log_comment != '')"
            " from system.query_log"
            " where type = 'QueryFinish' and position(query || log_comment, {run:String}) > 0",
            {"run": f"run={red.run_id} assets="},
        ).result_rows
    assert min(said[0]) > 0, said

    # the failure names day, mart, gate, and what helps; nobody retries it
    [failed] = [event for event in red.all_events if event.is_step_failure]
    told = failed.step_failure_data.error
    assert told is not None
    assert f"fct_event_sales_daily of {BAD} was refused by event_sales_equal_control_totals" in str(told)
    assert "bilten explain" in str(told)
    assert not [event for event in red.all_events if event.is_step_up_for_retry]

    # the gate is a check by day: the bad day failed, with a sample and the next step, the others passed
    checks = checks_of(red, SALES)
    assert {day for name, day in checks if name == "event_sales_equal_control_totals"} == {
        str(later(FIRST, number)) for number in range(4)
    }
    gate = checks["event_sales_equal_control_totals", str(BAD)]
    assert not gate.passed
    assert gate.severity == dg.AssetCheckSeverity.ERROR
    assert f"bilten explain {BAD}" in (gate.description or "")
    assert gate.metadata["failing_rows"].value == 2  # gross_sales and net_revenue
    row = gate.metadata["sample"].records[0].data
    assert row["found"] - row["expected"] == pytest.approx(0.01)
    assert not checks["event_sales_no_day_refused", str(BAD)].passed
    failed = {found for found, check in checks.items() if not check.passed}
    assert failed == {
        ("event_sales_equal_control_totals", str(BAD)),
        ("event_sales_no_day_refused", str(BAD)),
    }
    assert statuses(instance, "event_sales_equal_control_totals") == {
        **dict.fromkeys((str(FIRST), str(later(FIRST, 1)), str(LAST)), "SUCCEEDED"),
        str(BAD): "FAILED",
    }

    # as long as the day stands refused, a check says so every hour
    def refused() -> dg.AssetCheckResult:
        found = no_day_is_refused(dg.build_asset_check_context(), Platform(world.settings))
        assert isinstance(found, dg.AssetCheckResult)
        return found

    mart = SALES.path[-1]
    with Platform(world.settings).clickhouse() as client:
        client.command(
            "insert into analytics.mart_days select * replace (today() - 3 as day) from (select * from"
            f" analytics.mart_days final where verdict = 'refused' and day = '{BAD}' and mart = '{mart}')"
        )
        assert not refused().passed
        assert mart in str(refused().description)
        assert refused().metadata["refused_days"].value == 1
        client.command("delete from analytics.mart_days where day = today() - 3")
    assert refused().passed

    # what it cost the server is numeric, so that it plots
    assert recorded[str(FIRST)]["server_seconds"] > 0
    assert recorded[str(FIRST)]["server_seconds"] == pytest.approx(
        sum(recorded[str(FIRST)][f"{part}_server_seconds"] for part in ("build", "gates", "swap")), abs=0.01
    )
    assert recorded[str(FIRST)]["read_rows"] > 0
    assert recorded[str(FIRST)]["read_bytes"] > 0
    assert not {"invocation_id", "unique_id"} & set(recorded[str(FIRST)])

    # repaired: the sensor asks for nothing it has not to, the same range ends green
    world.sync(full=True)
    green = run(world, instance, FIRST, LAST)
    assert green.success
    recorded = days_of(instance, SALES)
    assert recorded[str(BAD)]["verdict"] == "swapped"
    assert recorded[str(FIRST)]["verdict"] == "unchanged"
    assert set(statuses(instance, "event_sales_equal_control_totals").values()) == {"SUCCEEDED"}

    # a check executed alone tells what was found when the day was built, and builds nothing
    before = days_of(instance, SALES)
    alone = run_checks(world, instance, [dg.AssetCheckKey(SALES, "event_sales_equal_control_totals")], BAD)
    assert alone.success
    assert checks_of(alone, SALES)["event_sales_equal_control_totals", str(BAD)].passed
    assert days_of(instance, SALES) == before

    # a late refund: dirty day, one request, one run, clean; the restatement is on the asset
    world.kolkata.refund(world.orders[FIRST], moment(later(FIRST, 1)), amount="20.50", fee="1.00")
    world.sync()
    [request] = tick(world, instance)
    begin, end = (date.fromisoformat(request.tags[tag]) for tag in (RANGE_START, RANGE_END))
    assert begin <= later(FIRST, 1) <= end
    assert request.run_key is not None
    assert str(later(FIRST, 1)) in request.run_key
    assert "bilten metrics build --from" in request.tags["bilten/by_hand"]
    late = run(world, instance, begin, end)
    assert late.success
    assert days_of(instance, SALES)[str(later(FIRST, 1))]["restated_cells"] == 3
    assert tick(world, instance) == []

    # what readers see equals PostgreSQL, and old days are not taken for fresh ones
    checks_job = assemble(world.settings).get_repository_def().get_job("data_checks")
    checked = checks_job.execute_in_process(instance=instance)
    results = {(check.asset_key, check.check_name): check for check in checked.get_asset_check_evaluations()}
    equal = results[SALES, "published_days_equal_postgres"]
    assert equal.passed
    assert equal.metadata["days_compared"].value == 4
    assert not results[SALES, "newest_closed_day_is_final"].passed
    assert results[dg.AssetKey(["analytics", "control_totals"]), "sync_lag"].passed


def tick(world: World, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    repository = assemble(world.settings).get_repository_def()
    sensor = repository.get_sensor_def("metrics_late_days")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context = dg.build_sensor_context(
            instance=instance, repository_def=repository, resources={"platform": Platform(world.settings)}
        )
        data = sensor.evaluate_tick(context)
    return list(data.run_requests or [])


def test_a_refusal_is_not_tried_again(world: World, instance: dg.DagsterInstance) -> None:
    with postgres.connect(world.settings.postgres, "etl", autocommit=True) as connection:
        assert connection.execute("select count(*) from system.sync_state").fetchone() == (0,)
    refused = run(world, instance, FIRST, FIRST)
    [failed] = [event for event in refused.all_events if event.is_step_failure]
    assert "no sync has run yet" in str(failed.step_failure_data.error)
    assert not [event for event in refused.all_events if event.is_step_up_for_retry]


def test_schedules_ask_for_the_ranges_that_are_due(
    parsed_project: Path, instance: dg.DagsterInstance
) -> None:
    repository = assemble(Settings(home=parsed_project)).get_repository_def()

    def asked(name: str, at: datetime) -> dg.RunRequest:
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=at, repository_def=repository
        )
        [request] = repository.get_schedule_def(name).evaluate_tick(context).run_requests or []
        return request

    provisional = asked("metrics_provisional_daily", datetime(2026, 3, 11, 4, tzinfo=UTC))
    assert (provisional.tags[RANGE_START], provisional.tags[RANGE_END]) == ("2026-03-10", "2026-03-11")
    final = asked("metrics_final_daily", datetime(2026, 3, 11, 13, tzinfo=UTC))
    assert (final.tags[RANGE_START], final.tags[RANGE_END]) == ("2026-03-06", "2026-03-12")
    assert final.run_config["ops"]["raw"]["config"]["control_days_back"] == 60
    sunday = asked("metrics_final_daily", datetime(2026, 3, 15, 13, tzinfo=UTC))
    assert sunday.run_config["ops"]["raw"]["config"]["control_days_back"] == 36_500
    assert dg.validate_run_config(repository.get_job("metrics_final"), final.run_config)
