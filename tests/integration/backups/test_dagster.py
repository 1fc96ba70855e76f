"""The asset and its check, as a run executes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import dagster as dg
import psutil
import pytest

from bilten_orchestration.backups import assets, checks, wal_assets
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.resources import Platform
from tests import processes
from tests.integration.backups.command import Environment
from tests.integration.backups.shop import Shop
from tests.waiting import until


def _run(settings: Settings) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [
            assets.ASSETS["postgres", "full"],
            assets.ASSETS["postgres", "incremental"],
            checks.LISTED["postgres", "full"],
            checks.LISTED["postgres", "incremental"],
        ],
        resources={"platform": Platform(settings)},
        raise_on_error=False,
    )


def test_a_run_takes_backups_and_checks_the_repository(shop: Shop) -> None:
    result = _run(shop.settings)
    assert result.success
    found = {}
    for kind in ("full", "incremental"):
        (event,) = result.asset_materializations_for_node(f"backups__postgres__{kind}")
        found[kind] = {name: value.value for name, value in event.metadata.items()}
        assert found[kind]["kind"] == kind
        for name in ("raw_bytes", "stored_bytes", "ratio", "seconds", "megabytes_per_second", "objects"):
            value = found[kind][name]
            assert isinstance(value, int | float), f"{name} is plotted as a number"
            assert value > 0
        assert str(found[kind]["wal"]).endswith(", timeline 1")
    assert shop.listed() == [found["full"]["backup"], found["incremental"]["backup"]]
    assert (found["full"]["parent"], found["incremental"]["parent"]) == ("none", found["full"]["backup"])
    with Opened.of(shop.settings) as opened:
        listed = catalogue.read(opened.repository, opened.ring).backups
    assert {backup.manifest.run for backup in listed} == {result.run_id}
    evaluations = result.get_asset_check_evaluations()
    assert [evaluation.passed for evaluation in evaluations] == [True, True]


def test_how_many_runs_of_a_month_were_good(shop: Shop) -> None:
    with dg.instance_for_test() as instance:
        for status in (dg.DagsterRunStatus.SUCCESS,) * 3 + (dg.DagsterRunStatus.FAILURE,):
            instance.add_run(
                dg.DagsterRun(job_name="postgres_full_backup", run_id=str(uuid4()), status=status)
            )
        # of other jobs, cancelled, and of more than 30 days ago: none of these counts
        failed = dg.DagsterRunStatus.FAILURE
        for job, status in (
            ("redis_full_backup", failed),
            ("postgres_full_backup", dg.DagsterRunStatus.CANCELED),
        ):
            instance.add_run(dg.DagsterRun(job_name=job, run_id=str(uuid4()), status=status))
        instance.run_storage.add_historical_run(
            dg.DagsterRun(job_name="postgres_full_backup", run_id=str(uuid4()), status=failed),
            datetime.now(UTC) - timedelta(days=31),
        )
        result = dg.materialize(
            [assets.ASSETS["postgres", "full"]],
            resources={"platform": Platform(shop.settings)},
            instance=instance,
        )
    (event,) = result.asset_materializations_for_node("backups__postgres__full")
    assert event.metadata["success_rate_30_days"].value == 0.75


def test_the_command_line_and_a_run_at_once(
    shop: Shop, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command holds the lock, and its server stands still: the run tells who is at work, and is tried
    again; by then the other one is done. No pool of Dagster's binds the command."""
    checkpointer = processes.checkpointer(shop.settings.postgres)
    waited: list[str] = []

    def waits(policy: dg.RetryPolicy, attempt: int) -> float:
        assert shop.listed() == []
        checkpointer.resume()
        assert command.wait(120) == 0
        waited.extend(shop.listed())
        return 0.0

    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", waits)
    checkpointer.suspend()
    try:
        command = subprocess.Popen(
            [sys.executable, "-m", "bilten_orchestration.cli.main", "backup", "create", "postgres"],
            env=environment(shop.settings) | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.DEVNULL,
        )
        with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
            held = "select true from pg_stat_activity where wait_event = 'CheckpointStart'"
            until(lambda: connection.execute(held).fetchone(), "the backup of the command")
        result = dg.materialize(
            [assets.ASSETS["postgres", "full"]],
            resources={"platform": Platform(shop.settings)},
            raise_on_error=False,
        )
    finally:
        checkpointer.resume()
        command.kill()
    assert result.success
    (retried,) = (event for event in result.all_events if event.is_step_up_for_retry)
    assert "another command is at work" in str(retried.step_retry_data.error)
    assert len(waited) == 1
    assert shop.listed()[:1] == waited
    assert len(shop.listed()) == 2


def test_what_cannot_pass_by_itself_is_not_tried_again(shop: Shop) -> None:
    """A wrong password: the run fails once, with the problem and the next step."""
    wrong = shop.settings.postgres.model_copy(
        update={"password": type(shop.settings.postgres.password)("wrong-password")}
    )
    result = _run(shop.settings.model_copy(update={"postgres": wrong}))
    assert not result.success
    failed = result.failure_data_for_node("backups__postgres__full")
    assert failed is not None
    assert failed.user_failure_data is not None
    assert "does not accept bilten_owner" in str(failed.user_failure_data.description)
    assert failed.user_failure_data.metadata["problems"]
    assert "wrong-password" not in str(failed)


def test_the_first_day_is_calm_and_the_third_is_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from bilten_orchestration.backups.repository import keys
    from bilten_orchestration.backups.repository.opened import key_file

    def audited() -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [wal_assets.postgres_wal],
            resources={"platform": Platform(shop.settings)},
            raise_on_error=False,
        )

    keys.ensure(key_file(shop.settings))
    result = audited()
    assert result.success
    checks_of = {each.check_name: each for each in result.get_asset_check_evaluations()}
    for each in checks_of.values():
        assert not each.passed
        assert each.severity == dg.AssetCheckSeverity.WARN
        assert "no base backup yet: first one at 02:00 UTC" in str(each.description)
    old = datetime.now(UTC).date() - timedelta(days=2)
    monkeypatch.setattr(keys, "made_on", lambda key_id: old)
    result = audited()
    assert not result.success
    failed = result.failure_data_for_node("backups__postgres__wal")
    assert failed is not None
    assert failed.user_failure_data is not None
    assert "holds no base backup" in str(failed.user_failure_data.description)


@pytest.mark.parametrize("bad", ["none", "altered"])
def test_the_check_goes_red(shop: Shop, bad: str) -> None:
    from bilten_orchestration.backups.repository import catalogue, keys
    from bilten_orchestration.backups.repository.opened import Opened, key_file
    from bilten_orchestration.stores import object_store

    keys.ensure(key_file(shop.settings))
    if bad == "altered":
        assert _run(shop.settings).success
        with Opened.of(shop.settings) as opened:
            backup, _ = catalogue.read(opened.repository, opened.ring).backups
            name = f"catalogue/postgres/{backup.manifest.id}/manifest.json"
            body = opened.repository.read_small(name)
        client = object_store.connect(shop.settings.object_store)
        client.put_object(
            Bucket=shop.settings.object_store.bucket_backups, Key=name, Body=body.replace(b"full", b"fuII")
        )
        client.close()
    found = checks.LISTED["postgres", "full"](dg.build_asset_check_context(), Platform(shop.settings))
    assert isinstance(found, dg.AssetCheckResult)
    assert not found.passed
    assert ("there is no such backup" if bad == "none" else "damaged or was altered") in str(
        found.description
    )


def test_a_run_that_is_interrupted_does_not_begin_its_step_anew(shop: Shop) -> None:
    """The whole way from "Terminate" is in tests/e2e; this is what the run worker is sent in the end."""
    checkpointer = processes.checkpointer(shop.settings.postgres)
    programs: list[psutil.Process] = []

    def interrupt() -> None:
        with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
            held = "select true from pg_stat_activity where wait_event = 'CheckpointStart'"
            until(lambda: connection.execute(held).fetchone(), "the backup of the run")
        programs.extend(processes.clients_of(shop.settings.postgres, "pg_basebackup"))
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    checkpointer.suspend()
    try:
        interrupter.start()
        result = _run(shop.settings)
        interrupter.join()
        assert len(programs) == 1
        until(lambda: not programs[0].is_running(), "the end of pg_basebackup")
    finally:
        checkpointer.resume()
    assert not result.success
    assert [event for event in result.all_events if event.is_step_up_for_retry] == []
    (failed,) = result.get_step_failure_events()
    assert failed.step_failure_data.error is not None
    assert failed.step_failure_data.error.cls_name == "DagsterExecutionInterruptedError"
    assert shop.listed() == []
    assert _run(shop.settings).success
