"""Runs of a restored Dagster storage: those from before the restore are canceled, and no others."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test

from bilten_orchestration.local.dagster_services import storage_url
from bilten_orchestration.recovery import dagster_runs
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.command import bilten, document
from tests.kills import killed_before_line

ALIVE = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE)


ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("bilten"), "__repository__"), "nightly"
)


class Shop:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def restored(self) -> None:
        with postgres.connect(self.settings.postgres, autocommit=True) as connection:
            connection.execute("insert into system.restores (reason) values ('site lost')")


@pytest.fixture
def shop(servers: Servers, settings: Settings) -> Iterator[Shop]:
    """With a database of Dagster's, which is empty."""
    name = f"dagster_{next(servers.numbers)}"
    with stack.postgres.superuser(servers.postgres.cluster) as connection:
        connection.execute(f"create database {name} owner {settings.postgres.dagster_user}".encode())
    yield Shop(
        settings.model_copy(
            update={"postgres": settings.postgres.model_copy(update={"dagster_database": name})}
        )
    )
    servers.drop_database(name)


@pytest.fixture
def instance(shop: Shop, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    storage = {"postgres": {"postgres_url": storage_url(shop.settings)}}
    (tmp_path / "dagster.yaml").write_text(json.dumps({"storage": storage, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def _kill_at_second(shop: Shop) -> None:
    """Its event is written, its status is not."""
    canceled = dg.DagsterInstance.report_run_canceled
    calls = 0

    def die(instance: dg.DagsterInstance, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return canceled(instance, *arguments, **named)

    dg.DagsterInstance.report_run_canceled = die  # type: ignore[method-assign]
    dagster_runs.recover(shop.settings, execute=True)


def test_those_from_before_the_restore_are_canceled_and_say_why(
    shop: Shop,
    instance: dg.DagsterInstance,
    environment: Callable[[Settings], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = {
        status: create_run_for_test(instance, "nightly", status=status, remote_job_origin=ORIGIN)
        for status in (*ALIVE, *ENDED)
    }
    # nothing was restored: what is under way is somebody's
    assert dagster_runs.recover(shop.settings, execute=True).runs == ()
    shop.restored()
    later = create_run_for_test(instance, "nightly", status=dg.DagsterRunStatus.STARTED)

    def status(run: dg.DagsterRun) -> dg.DagsterRunStatus:
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        return found.status

    planned = bilten(shop, environment, "recover", "runs", "--json")
    assert planned.returncode == 0, planned.stderr
    listed = document(planned)["result"]
    assert not listed["executed"]
    assert {each["run_id"]: each["status"] for each in listed["runs"]} == {
        runs[each].run_id: each.value for each in ALIVE
    }
    assert all(status(run) == before for before, run in runs.items())

    left = tmp_path / "left"
    left.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(left))
    assert killed_before_line(lambda: _kill_at_second(shop), [], 1)
    files = [file.read_bytes() for file in left.rglob("*") if file.is_file()]
    password = shop.settings.postgres.dagster_password.get_secret_value().encode()
    assert files
    assert [file for file in files if password in file] == []
    assert sorted(status(runs[each]).value for each in ALIVE).count("CANCELED") == 1

    report = dagster_runs.recover(shop.settings, execute=True)
    assert len(report.runs) == len(ALIVE) - 1
    for each in ALIVE:
        assert status(runs[each]) == dg.DagsterRunStatus.CANCELED
        said = [entry.user_message or entry.message for entry in instance.all_logs(runs[each].run_id)]
        assert any("was restored (site lost): no process serves this run" in text for text in said), said
    assert [status(runs[each]) for each in ENDED] == list(ENDED)
    assert status(later) == dg.DagsterRunStatus.STARTED
    assert dagster_runs.recover(shop.settings, execute=True).runs == ()


def test_a_storage_without_tables_stays_without(shop: Shop) -> None:
    shop.restored()
    assert dagster_runs.recover(shop.settings, execute=True).runs == ()
    with postgres.connect(shop.settings.postgres, "dagster") as connection:
        row = connection.execute("select count(*) from pg_class where relname = 'runs'").fetchone()
    assert row == (0,)
