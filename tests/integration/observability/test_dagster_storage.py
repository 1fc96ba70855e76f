"""Dagster's storage as Dagster itself writes it: what is read from there by SQL is what it means."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.types import DaemonHeartbeat
from psycopg import OperationalError

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local.dagster_services import storage_url
from bilten_orchestration.observability.exporter.dagster import DagsterInternals
from bilten_orchestration.observability.finding import Finding
from bilten_orchestration.observability.sources import bounded, dagster, dagster_storage
from bilten_orchestration.settings import AlertSettings, Settings
from tests.conftest import Servers


@dataclass
class World:
    settings: Settings
    instance: dg.DagsterInstance

    def findings(self, **limits: int) -> dict[str, Finding]:
        alerts = AlertSettings(**limits) if limits else self.settings.alerts  # type: ignore[arg-type]
        settings = self.settings.model_copy(update={"alerts": alerts})
        sources = (
            dagster.DagsterRuns(settings, lambda name: f"team:{name}"),  # type: ignore[arg-type]
            dagster.DagsterChecks(settings, lambda name: f"team:{name}"),  # type: ignore[arg-type]
        )
        found = [finding for source in sources for finding in source.read().findings]
        return {finding.key: finding for finding in found if finding.kind != "daemon-silent"}


@pytest.fixture(scope="module")
def storage(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One database for the module: Dagster makes its tables in seconds."""
    database = f"dagster_{next(servers.numbers)}"
    from tests import stack

    with stack.postgres.superuser(servers.postgres.cluster) as connection:
        connection.execute(f"create database {database} owner bilten_dagster")
    home: Path = tmp_path_factory.mktemp("dagster")
    settings = Settings(
        home=home, environment="test", postgres=servers.postgres.settings(dagster_database=database)
    )
    empty = dagster.DagsterRuns(settings, lambda name: "")  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match="has no tables yet"):
        empty.read()
    (home / "dagster.yaml").write_text(
        json.dumps(
            {
                "storage": {"postgres": {"postgres_url": storage_url(settings)}},
                "telemetry": {"enabled": False},
            }
        )
    )
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield World(settings, instance)
    with stack.postgres.superuser(servers.postgres.cluster) as connection:
        connection.execute(f"drop database {database} with (force)")


@pytest.fixture
def world(storage: World) -> Iterator[World]:
    yield storage
    storage.instance.wipe()


broken = True


@dg.op
def divide() -> None:
    if broken:
        raise dg.Failure("1 row differs\n  next: bilten sync", allow_retries=False)


@dg.job(tags={"bilten/by_hand": "bilten sync", "bilten/on_failure": "bilten wal status"})
def ratio() -> None:
    divide()


@dg.asset(
    check_specs=[dg.AssetCheckSpec("equal", asset="mart", blocking=True)],
    partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
)
def mart() -> Iterator[object]:
    yield dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(passed=not broken, check_name="equal", description="3 of 4; next: look")
        ]
    )


def _run(world: World, *, fails: bool, tags: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
    global broken
    broken = fails
    return ratio.execute_in_process(instance=world.instance, raise_on_error=False, tags=tags)


def test_a_failed_run_is_told_with_its_reason_until_a_later_one_succeeds(world: World) -> None:
    failed = _run(world, fails=True)
    (finding,) = world.findings().values()
    assert (finding.key, finding.kind, finding.owner) == ("run/ratio", "run-failed", "team:ratio")
    assert "1 row differs" in finding.problem.found
    assert finding.problem.next == "bilten wal status; bilten sync"
    assert finding.link.endswith(f"/runs/{failed.run_id}")
    assert finding.since is not None and abs((datetime.now(UTC) - finding.since).total_seconds()) < 300
    _run(world, fails=False)
    assert world.findings() == {}


def test_a_run_that_dagster_tries_again_is_none(world: World) -> None:
    _run(world, fails=True, tags={"dagster/will_retry": "true"})
    assert world.findings() == {}


def test_failures_of_a_backfill_are_one_and_each_is_made_up_for(world: World) -> None:
    for partition in "abc":
        _run(world, fails=True, tags={"dagster/backfill": "bf", "dagster/partition": partition})
    (finding,) = world.findings().values()
    assert finding.key == "backfill/bf"
    assert finding.problem.what == "3 runs of ratio failed of a, b, c"
    for partition in "ab":
        _run(world, fails=False, tags={"dagster/partition": partition})
    (finding,) = world.findings().values()
    assert finding.problem.what == "the run of ratio of c failed"


def test_a_defect_is_told_by_its_own_words(world: World) -> None:
    @dg.op
    def wrong() -> None:
        raise ZeroDivisionError("by nothing")

    @dg.job
    def defect() -> None:
        wrong()

    defect.execute_in_process(instance=world.instance, raise_on_error=False)
    (finding,) = world.findings().values()
    assert "ZeroDivisionError: by nothing" in finding.problem.found


def test_a_failed_check_is_told_until_it_passes_for_that_partition(world: World) -> None:
    global broken

    def materialize(partition: str, fails: bool) -> None:
        global broken
        broken = fails
        dg.materialize([mart], instance=world.instance, partition_key=partition, raise_on_error=False)

    materialize("a", fails=True)
    found = world.findings()
    check = found["check/mart/equal"]
    assert (check.kind, check.severity, check.owner) == ("check-failed", "critical", "team:mart")
    assert check.problem.found == "3 of 4;" and check.problem.next == "look"
    materialize("a", fails=False)
    assert "check/mart/equal" not in world.findings()


def test_assets_that_are_late_are_one_incident_of_their_domain(world: World) -> None:
    def change(state: FreshnessState, *keys: str) -> None:
        for key in keys:
            world.instance._report_runless_asset_event(  # as Dagster's daemon does
                FreshnessStateChange(
                    key=dg.AssetKey(key.split("/")),
                    previous_state=FreshnessState.UNKNOWN,
                    new_state=state,
                    state_change_timestamp=time.time(),
                )
            )

    change(
        FreshnessState.FAIL, "search/drift", "search/popularity", "raw/events_events", "backups/redis/full"
    )
    change(FreshnessState.WARN, "observability/run_history")
    (late,) = world.findings().values()
    assert (late.key, late.kind, late.severity) == ("fresh/search", "asset-not-fresh", "warning")
    assert "search/drift, search/popularity" in late.problem.what
    assert late.since is not None and abs((datetime.now(UTC) - late.since).total_seconds()) < 300
    change(FreshnessState.PASS, "search/drift")
    (late,) = world.findings().values()
    assert late.problem.what == "search/popularity: not made anew in time"
    change(FreshnessState.PASS, "search/popularity")
    assert world.findings() == {}


def test_runs_that_do_not_start_or_do_not_end(world: World) -> None:
    create_run_for_test(world.instance, job_name="queued", status=dg.DagsterRunStatus.NOT_STARTED)
    started = create_run_for_test(world.instance, job_name="going", status=dg.DagsterRunStatus.STARTING)
    world.instance.report_run_canceling(
        create_run_for_test(world.instance, job_name="ending", status=dg.DagsterRunStatus.STARTED)
    )
    assert world.findings() == {}
    with bounded.connected(world.settings, "the test", role="dagster", seconds=10) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(
            "update runs set create_timestamp = create_timestamp - interval '1 day',"
            " update_timestamp = update_timestamp - interval '1 day'"
        )
    kinds = {key: finding.kind for key, finding in world.findings().items()}
    assert kinds == {
        "waiting/queued": "run-never-started",
        "waiting/going": "run-never-started",
        "stuck/ending": "run-stuck",
    }
    world.instance.report_run_failed(started)


def test_heartbeats_and_failed_ticks(world: World) -> None:
    runs = dagster.DagsterRuns(world.settings, lambda name: "")  # type: ignore[arg-type]
    (silent,) = runs.read().findings
    assert (silent.kind, silent.severity, silent.problem.found) == ("daemon-silent", "critical", "none ever")
    now = time.time()
    for kind in ("SCHEDULER", "SENSOR"):
        world.instance.add_daemon_heartbeat(DaemonHeartbeat(now, kind, "id"))
    assert runs.read().findings == ()
    world.instance.add_daemon_heartbeat(DaemonHeartbeat(now - 900, "SENSOR", "id"))
    (part,) = runs.read().findings
    assert part.key == "daemon/SENSOR"
    world.instance.add_daemon_heartbeat(DaemonHeartbeat(now, "SENSOR", "id"))

    from dagster._utils.error import SerializableErrorInfo

    tick = world.instance.create_tick(
        TickData(
            "origin",
            "nightly",
            InstigatorType.SCHEDULE,
            TickStatus.FAILURE,
            now,
            error=SerializableErrorInfo("KeyError: day", [], "KeyError"),
            selector_id="selector",
        )
    )
    found = world.findings()
    assert found["tick/nightly"].problem.found == "KeyError: day"
    world.instance.create_tick(replace_status(tick.tick_data))
    assert world.findings() == {}


def replace_status(data: TickData) -> TickData:
    return data._replace(status=TickStatus.SKIPPED, error=None)


def test_only_columns_that_dagster_has_are_asked(world: World) -> None:
    """A new version of Dagster that renames one of them fails here and not at three in the morning."""
    with bounded.connected(world.settings, "the test", role="dagster", seconds=30) as connection:
        dagster_storage.require(connection)
        now = datetime.now(UTC)
        assert dagster_storage.failed(connection, now) == []
        assert dagster_storage.unfinished(connection) == []
        assert dagster_storage.failed_checks(connection) == []
        assert dagster_storage.failed_ticks(connection) == []
        assert dagster_storage.stale(connection) == []
        assert dagster_storage.said(connection, "no such run") == ""


def test_a_connection_ends_by_its_deadline_whatever_the_server_does(world: World) -> None:
    began = time.monotonic()
    with bounded.connected(world.settings, "the test", role="dagster", seconds=1) as connection:
        connection.execute("set statement_timeout = 0")
        with pytest.raises(OperationalError):
            connection.execute("select pg_sleep(600)")
        assert connection.broken
    assert time.monotonic() - began < 120


def test_numbers_for_prometheus(world: World) -> None:
    def read() -> dict[tuple[str, ...], float]:
        found = DagsterInternals(world.settings).read().samples
        return {
            (each.family.name.removeprefix("bilten_dagster_"), *each.labels): each.value for each in found
        }

    empty = read()
    assert empty["runs", "QUEUED"] == empty["longest_queued_seconds",] == empty["longest_run_seconds",] == 0
    assert not [key for key in empty if key[0] == "runs_ended_last_day"]
    for fails in (True, False, False):
        _run(world, fails=fails)
    waiting = create_run_for_test(world.instance, job_name="queued", status=dg.DagsterRunStatus.NOT_STARTED)
    world.instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - 300, "SENSOR", "id"))
    for status in (TickStatus.STARTED, TickStatus.SKIPPED):
        world.instance.create_tick(
            TickData("o", "n", InstigatorType.SENSOR, status, time.time(), selector_id="s")
        )
    with bounded.connected(world.settings, "the test", role="dagster", seconds=10) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(
            "update runs set create_timestamp = create_timestamp - interval '1 hour' where run_id = %s",
            (waiting.run_id,),
        )
    found = read()
    assert found["runs", "NOT_STARTED"] == 1
    assert 3600 <= found["longest_queued_seconds",] < 4500
    for name, more in (("STARTED", 1), ("SKIPPED", 1), ("FAILURE", 0)):  # those of other tests stay
        assert found["ticks_last_hour", name] == empty["ticks_last_hour", name] + more
    assert 300 <= found["daemon_heartbeat_age_seconds", "SENSOR"] < 1200
    assert found["runs_ended_last_day", "ratio", "SUCCESS"] == 2
    assert found["runs_ended_last_day", "ratio", "FAILURE"] == 1
    records = [
        record
        for record in world.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        if record.start_time is not None and record.end_time is not None
    ]
    took = [record.end_time - record.start_time for record in records]  # type: ignore[operator]
    assert found["run_duration_mean_seconds", "ratio"] == pytest.approx(sum(took) / 2)
    assert found["run_duration_max_seconds", "ratio"] == pytest.approx(max(took))
    assert found["last_success_timestamp_seconds", "ratio"] == max(
        record.end_time for record in records if record.end_time is not None
    )
