"""Every job of the code location, run on real stores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bilten_orchestration.definitions import assemble
from bilten_orchestration.metrics.schedules import RANGE_END, RANGE_START
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.world import FIRST, World, later

# face.py accepts them, but pytest puts filters of its own above
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")

LAST = later(FIRST, 1)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def execute(
    settings: Settings, instance: dg.DagsterInstance, job: str, **more: Any
) -> dg.ExecuteInProcessResult:
    repository = assemble(settings).get_repository_def()
    return repository.get_job(job).execute_in_process(instance=instance, raise_on_error=False, **more)


def span(first: date, last: date) -> dict[str, str]:
    return {RANGE_START: str(first), RANGE_END: str(last)}


def newest(instance: dg.DagsterInstance, *path: str) -> dict[str, Any]:
    """Metadata of the newest materialization."""
    event = instance.get_latest_materialization_event(dg.AssetKey(path))
    assert event is not None
    assert event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def data_version(instance: dg.DagsterInstance, *path: str) -> str:
    event = instance.get_latest_materialization_event(dg.AssetKey(path))
    assert event is not None
    assert event.asset_materialization is not None
    return (event.asset_materialization.tags or {})["dagster/data_version"]


def failed_checks(result: dg.ExecuteInProcessResult) -> list[str]:
    return [
        f"{check.check_name} {check.partition}: {check.description}"
        for check in result.get_asset_check_evaluations()
        if not check.passed
    ]


def test_metrics_final_syncs_builds_closes_and_reports(world: World, instance: dg.DagsterInstance) -> None:
    world.trade(FIRST, LAST)
    back = (datetime.now(UTC).date() - FIRST).days
    result = execute(
        world.settings,
        instance,
        "metrics_final",
        tags=span(FIRST, LAST),
        run_config={"ops": {"raw": {"config": {"control_days_back": back}}}},
    )
    assert result.success
    assert failed_checks(result) == []

    # all that the job selects was materialized or, where a build has nothing to do, is accounted for
    graph = assemble(world.settings).get_repository_def().asset_graph
    unmade = {
        key.to_user_string()
        for key in graph.materializable_asset_keys
        if key.path[0] not in ("backups", "drills", "observability", "partitions", "search")
        and key.path[-1] != "platform_figures"
        and instance.get_latest_materialization_event(key) is None
    }
    assert unmade == set()
    judged = {check.asset_check_key for check in result.get_asset_check_evaluations()}
    planned = result.job_def.asset_layer.asset_graph.asset_check_keys
    assert len(planned) > 100
    assert planned - judged == set(), "what a run plans to examine it examines"

    assert newest(instance, "raw", "payments_payments")["rows_written"] == 4
    sales = newest(instance, "marts", "fct_event_sales_daily")
    assert sales["rows"] == 2
    assert sales["final"] is True
    assert sales["server_seconds"] > 0
    events = newest(instance, "marts", "dim_events")
    assert events["dagster/row_count"] == 2
    assert events["server_seconds"] > 0
    assert events["batch"] == sales["batch"]

    # the reconciliation ran in the job, after the marts
    [equal] = [
        check
        for check in result.get_asset_check_evaluations()
        if check.check_name == "published_days_equal_postgres"
    ]
    assert equal.metadata["days_compared"].value == 2

    # columns can be followed from every mart to where they come from
    marts = [
        key
        for key in graph.materializable_asset_keys
        if key.path[0] == "marts" and key.path[1] != "dim_dates"
    ]
    unexplained = [
        key.path[1] for key in marts if "dagster/column_lineage" not in newest(instance, *key.path)
    ]
    assert unexplained == []
    assert any(sales["dagster/column_lineage"].deps_by_column["net_revenue"])


@pytest.mark.faults
def test_metrics_provisional_builds_the_open_days_that_its_schedule_asks_for(
    world: World, instance: dg.DagsterInstance
) -> None:
    now = datetime.now(UTC)
    today = now.date()
    world.trade(today - timedelta(days=1), today).sync()
    repository = assemble(world.settings).get_repository_def()
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=now, repository_def=repository
    )
    [request] = (
        repository.get_schedule_def("metrics_provisional_daily").evaluate_tick(context).run_requests or []
    )
    result = execute(world.settings, instance, "metrics_provisional", tags=dict(request.tags))
    assert result.success
    assert failed_checks(result) == []
    sales = newest(instance, "marts", "fct_event_sales_daily")
    assert sales["final"] is False
    assert sales["rows"] == 2
    assert newest(instance, "marts", "rpt_event_summary")["dagster/row_count"] == 2

    # `Execute` on the page of a dbt test: the test alone, nothing is built
    before = instance.get_latest_materialization_event(dg.AssetKey(["marts", "dim_events"]))
    alone = dg.AssetCheckKey(dg.AssetKey(["marts", "dim_events"]), "unique_dim_events_event_id")
    job = repository.get_job("metrics_provisional").get_subset(
        asset_selection=set(), asset_check_selection={alone}
    )
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert result.success
    assert [check.asset_check_key for check in result.get_asset_check_evaluations()] == [alone]
    assert instance.get_latest_materialization_event(dg.AssetKey(["marts", "dim_events"])) == before


def test_ingestion_brings_a_batch_and_says_what_it_held(world: World, instance: dg.DagsterInstance) -> None:
    world.trade(FIRST, FIRST)
    assert execute(world.settings, instance, "ingestion").success
    first = newest(instance, "raw", "payments_payments")
    assert first["rows_written"] == 2
    version = data_version(instance, "raw", "payments_payments")
    world.kolkata.refund(world.orders[FIRST], datetime(2026, 3, 2, 12, tzinfo=UTC), amount="20.50")
    assert execute(world.settings, instance, "ingestion").success
    assert newest(instance, "raw", "payments_refunds")["rows_written"] == 1
    controls = newest(instance, "analytics", "control_totals")
    assert controls["batch"] == first["batch"] + 1
    assert controls["cells"] > 0
    # the marts are not called unsynced by a batch: dirty days tell what to build again
    assert data_version(instance, "raw", "payments_payments") == version
    assert data_version(instance, "analytics", "control_totals") == version
    assert data_version(instance, "raw", "payments_refunds") == version


def test_partition_maintenance_makes_the_month_that_is_missing_and_tells_of_drift(
    world: World, instance: dg.DagsterInstance
) -> None:
    with owner(world.settings) as connection:
        [last] = connection.execute(
            "select max(inhrelid::regclass::text) from pg_inherits"
            " where inhparent = 'users.user_behavior'::regclass"
        ).fetchone() or [None]
        connection.execute(f"drop table {last}")
        # what somebody did to one table is told of that one alone
        [months] = connection.execute(
            "select max(inhrelid::regclass::text) from pg_inherits"
            " where inhparent = 'audit.audit_log'::regclass"
        ).fetchone() or [None]
        connection.execute(f"alter table {months} rename to renamed")
    result = execute(world.settings, instance, "partition_maintenance")
    assert result.success
    (told,) = failed_checks(result)
    assert told.startswith("drift ")
    assert "a partition of audit.audit_log was renamed" in told
    behavior, audit = (
        newest(instance, "partitions", "user_behavior"),
        newest(instance, "partitions", "audit_log"),
    )
    assert (behavior["made"], behavior["problems"]) == (1, 0)
    assert (audit["made"], audit["problems"]) == (0, 1)
    clicks = newest(instance, "partitions", "clickstream")
    assert clicks["problems"] == 0
    assert clicks["parts"] >= clicks["most_parts"] >= 0


def test_what_cannot_succeed_is_not_tried_again(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused batch: PostgreSQL was restored, its epoch differs."""
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda *_: pytest.fail("a terminal error waits"))
    world.trade(FIRST, FIRST).sync()
    world.connection.execute(
        "update system.sync_state set epoch = jsonb_set(epoch, '{timeline}', '99')"
        " where consumer = 'clickhouse'"
    )
    result = execute(world.settings, instance, "ingestion")
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_failure_data.error is not None
    assert "bilten sync --accept-epoch" in str(failed.step_failure_data.error)
    assert failed.step_failure_data.user_failure_data is not None
    assert "problems" in failed.step_failure_data.user_failure_data.metadata
