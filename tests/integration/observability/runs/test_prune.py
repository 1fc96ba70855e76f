"""Old runs on Dagster's real storage: what is needed stays, the rest goes whole, whatever is killed."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.manifest import Manifest, new_id
from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.local.dagster_services import COMPUTE_LOGS, storage_url
from bilten_orchestration.local.layout import layout
from bilten_orchestration.observability.runs import assets, evidence, prune
from bilten_orchestration.settings import DagsterSettings, Settings
from bilten_orchestration.stores import object_store, postgres
from bilten_orchestration.stores.resources import Platform
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.command import bilten, document
from tests.kills import killed_before_line

SUCCESS, FAILURE, STARTED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.STARTED,
)
passes = True


@dg.asset(
    partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
    check_specs=[dg.AssetCheckSpec("equal", asset="shelf")],
)
def shelf() -> Iterator[dg.MaterializeResult[None]]:
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=passes, check_name="equal")])


class World:
    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.names: dict[str, str] = {}

    def plain(self, name: str, status: dg.DagsterRunStatus = SUCCESS, **given: Any) -> str:
        run_id = create_run_for_test(self.instance, "nightly", status=status, **given).run_id
        self.instance.report_engine_event(f"{name} said something", run_id=run_id, job_name="nightly")
        return self._named(name, run_id)

    def made(self, name: str, partition: str) -> str:
        result = dg.materialize(
            [shelf], instance=self.instance, partition_key=partition, tags={"dagster/job": "shelf"}
        )
        return self._named(name, result.run_id)

    def _named(self, name: str, run_id: str) -> str:
        self.names[run_id] = name
        with closing(object_store.connect(self.settings.object_store)) as client:
            client.put_object(
                Bucket=self.settings.object_store.bucket_dagster,
                Key=f"{COMPUTE_LOGS}/storage/{run_id}/compute_logs/step.out",
                Body=b"said",
            )
        (layout(self.settings.home).dagster_home / COMPUTE_LOGS / run_id).mkdir(parents=True)
        return run_id

    def age(self, days: int = 60) -> None:
        """All runs so far are so old."""
        self.execute(
            "update runs set create_timestamp = create_timestamp - make_interval(days => %(days)s),"
            " update_timestamp = update_timestamp - make_interval(days => %(days)s)",
            {"days": days},
        )

    def lately(self) -> None:
        """Runs were made on three days of the last week."""
        for days in range(3):
            run_id = self.plain(f"{days} days ago")
            self.execute(
                "update runs set create_timestamp = create_timestamp - make_interval(days => %(days)s)"
                " where run_id = %(run)s",
                {"days": days, "run": run_id},
            )

    def execute(self, statement: str, given: dict[str, Any] | None = None) -> Any:
        with postgres.connect(self.settings.postgres, "dagster", autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), given)
            return cursor.fetchall() if cursor.description else None

    def left(self) -> set[str]:
        return {self.names[run_id] for (run_id,) in self.execute("select run_id from runs")}

    def traces(self) -> dict[str, set[str]]:
        """Runs of which each kind of trace is left, also where the run itself is gone."""
        with closing(object_store.connect(self.settings.object_store)) as client:
            listed = Repository(client, self.settings.object_store.bucket_dagster).list(COMPUTE_LOGS)
            objects = {each.name.split("/")[2] for each in listed}
        tables = {
            table: {run_id for (run_id,) in self.execute(f"select distinct run_id from {table}")}
            for table in ("event_logs", "asset_check_executions", "run_tags")
        }
        disk = {each.name for each in (layout(self.settings.home).dagster_home / COMPUTE_LOGS).iterdir()}
        return {
            kind: {self.names[run_id] for run_id in found if run_id in self.names}
            for kind, found in {**tables, "objects": objects, "disk": disk}.items()
        }


@pytest.fixture
def world(
    servers: Servers, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    # two of each job stay, instead of ten
    monkeypatch.setattr(evidence, "OF_A_JOB", 2)
    name = f"dagster_{next(servers.numbers)}"
    with stack.postgres.superuser(servers.postgres.cluster) as connection:
        connection.execute(f"create database {name} owner {settings.postgres.dagster_user}".encode())
    own = settings.model_copy(
        update={"postgres": settings.postgres.model_copy(update={"dagster_database": name})}
    )
    storage = {"postgres": {"postgres_url": storage_url(own)}}
    (tmp_path / "dagster.yaml").write_text(json.dumps({"storage": storage, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield World(own, instance)
    servers.drop_database(name)


def backup_by(settings: Settings, run_id: str) -> None:
    """A backup in the catalogue that names this run."""
    ring = keys.ensure(key_file(settings))
    at = datetime.now(UTC)
    manifest = Manifest(
        id=new_id("redis", "full", at),
        store="redis",
        kind="full",
        source="a",
        started_at=at,
        finished_at=at,
        raw_bytes=1,
        codec="zstd",
        objects=(),
        key_id=ring.current,
        versions={},
        run=run_id,
    )
    with closing(object_store.connect(settings.object_store)) as client:
        catalogue.add(Repository(client, settings.object_store.bucket_backups), ring, manifest)


def test_what_is_needed_stays_and_the_rest_goes_whole(
    world: World, environment: Callable[[Settings], dict[str, str]]
) -> None:
    drilled, saved = world.plain("named by a drill"), world.plain("named by a backup")
    world.plain("of a backfill", tags={"dagster/backfill": "wanted"})
    world.plain("of a backfill that is over", tags={"dagster/backfill": "over"})
    for key, status in (("wanted", "REQUESTED"), ("over", "COMPLETED_SUCCESS")):
        world.execute(
            "insert into bulk_actions (key, status, timestamp) values (%(key)s, %(status)s, now())",
            {"key": key, "status": status},
        )
    world.plain("at work", STARTED)
    world.plain("old")
    world.plain("old and failed", FAILURE)
    for name, partition in (("first of a", "a"), ("second of a", "a"), ("of b", "b"), ("again", "b")):
        world.made(name, partition)
    world.age()
    world.lately()
    with postgres.connect(world.settings.postgres, autocommit=True) as connection:
        connection.execute(
            "insert into system.restore_drills (store, way, started_at, run_id)"
            " values ('redis', 'x', now(), %s)",
            (drilled,),
        )
    backup_by(world.settings, saved)
    gone = {"of a backfill that is over", "old", "old and failed", "first of a"}
    everything = world.left()

    # a preview says it, and removes nothing
    previewed = bilten(world, environment, "runs", "prune", "--json")
    assert previewed.returncode == 0, previewed.stderr
    told = document(previewed)["result"]
    # the child has not heard of two: the newest ten of both jobs are all
    assert (told["executed"], told["going"], told["runs"]) == (False, [], len(everything))
    report = prune.prune(world.settings)
    assert {world.names[run.run_id] for run in report.going} == gone
    assert (report.executed, world.left()) == (False, everything)
    assert report.young == 3
    assert dict(report.kept) == {
        "named": 2,
        "backfill": 1,
        "newest of its job": 2,
        "newest of an asset": 1,
    }

    report = prune.prune(world.settings, execute=True)
    assert {world.names[run.run_id] for run in report.going} == gone
    assert report.events > len(gone)
    assert report.log_objects == len(gone)
    assert world.left() == everything - gone
    for kind, found in world.traces().items():
        assert not found & gone, kind
    assert world.traces()["objects"] == world.traces()["disk"] == everything - gone
    # what Dagster knows of the asset is what it was
    assert world.instance.get_materialized_partitions(shelf.key) == {"a", "b"}
    assert world.instance.get_latest_materialization_event(shelf.key) is not None
    assert prune.prune(world.settings, execute=True).going == ()


@pytest.mark.parametrize("step", ["_logs", "_run", "delete_events"])
def test_a_kill_leaves_a_run_that_the_next_call_finds(world: World, step: str) -> None:
    for number in range(5):
        world.plain(f"old {number}")
    world.age()
    world.lately()

    def dies_after_the_second() -> None:
        calls = 0

        def then_die(work: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any) -> Any:
                nonlocal calls
                found = work(*arguments)
                calls += 1
                if calls == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

            return called

        if step == "delete_events":
            from dagster_postgres.event_log import PostgresEventLogStorage as Storage

            Storage.delete_events = then_die(Storage.delete_events)  # type: ignore[method-assign]
        else:
            setattr(prune, step, then_die(getattr(prune, step)))
        prune.prune(world.settings, execute=True)

    world.instance.dispose()  # a fork must not share its connections
    assert killed_before_line(dies_after_the_second, [], 1)
    assert prune.prune(world.settings, execute=True).executed
    recent = {"0 days ago", "1 days ago", "2 days ago"}
    assert world.left() == recent
    assert all(found <= recent for found in world.traces().values())


def test_one_call_is_bounded_and_the_asset_tells_what_is_left_over(world: World) -> None:
    for number in range(6):
        world.plain(f"old {number}")
    world.age()
    world.lately()
    few = world.settings.model_copy(update={"dagster": DagsterSettings(prune_runs=4)})

    def materialized() -> tuple[dict[str, Any], bool]:
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                [assets.run_history], instance=instance, resources={"platform": Platform(few)}
            )
            (event,) = result.asset_materializations_for_node("observability__run_history")
            (check,) = result.get_asset_check_evaluations()
            return {name: value.value for name, value in event.metadata.items()}, check.passed

    numbers, bounded = materialized()
    assert (numbers["removed_runs"], numbers["left_over"], bounded) == (4, 2, False)
    assert numbers["runs"] == 5
    assert numbers["database_bytes"] > 0
    # the oldest went first
    assert world.left() == {"old 4", "old 5", "0 days ago", "1 days ago", "2 days ago"}
    numbers, bounded = materialized()
    assert (numbers["removed_runs"], numbers["left_over"], bounded) == (2, 0, True)


def test_nothing_goes_where_the_evidence_is_missing(world: World) -> None:
    for number in range(4):
        world.plain(f"old {number}")
    world.age()
    # a clock that jumped, or a storage of the past: nothing was made lately
    with pytest.raises(Refused, match="hardly any was made lately"):
        prune.prune(world.settings, execute=True)
    world.lately()
    # a catalogue that cannot be believed
    backup_by(world.settings, "00000000-0000-0000-0000-000000000000")
    assert len(prune.prune(world.settings).going) == 4
    with closing(object_store.connect(world.settings.object_store)) as client:
        bucket = Repository(client, world.settings.object_store.bucket_backups)
        (document_,) = bucket.list(f"{catalogue.ROOT}/")
        client.put_object(Bucket=bucket.bucket, Key=document_.name, Body=b"{}")
    with pytest.raises(Mismatch, match="damaged or was altered"):
        prune.prune(world.settings, execute=True)
    assert {name for name in world.left() if name.startswith("old")} == {f"old {n}" for n in range(4)}


def test_a_deployment_without_dagster_has_nothing(settings: Settings, servers: Servers) -> None:
    nowhere = settings.model_copy(
        update={"postgres": settings.postgres.model_copy(update={"dagster_database": "not_there"})}
    )
    assert prune.prune(nowhere, execute=True).cutoff is None
