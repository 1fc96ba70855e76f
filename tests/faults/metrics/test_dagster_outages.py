"""A run whose store goes away for a moment, and a run beside a shell that builds the same days."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from bilten_orchestration.metrics import manifest
from bilten_orchestration.metrics.locks import BUILD
from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.locks import _HOLDERS
from tests.conftest import Servers
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.conftest import world
from tests.integration.metrics.test_dagster_jobs import execute, failed_checks, instance, newest, span
from tests.integration.metrics.world import FIRST, World, later
from tests.stack import ClickHouseServer
from tests.waiting import until

__all__ = ["instance", "world"]  # fixtures

pytestmark = [
    pytest.mark.faults,
    # face.py accepts them, but pytest puts filters of its own above
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning"),
]

LAST = later(FIRST, 1)
ROOT = Path(__file__).parents[3]


# -- stores that go away for a moment --------------------------------------------------------------


@pytest.fixture
def apart(
    servers: Servers, settings: Settings, own_clickhouse: ClickHouseServer, parsed_project: Path
) -> Settings:
    """The session's PostgreSQL, and a migrated ClickHouse that the test may kill."""
    value = settings.model_copy(update={"clickhouse": own_clickhouse.settings})
    (value.home / "dbt").mkdir(parents=True, exist_ok=True)
    (value.home / "dbt" / "manifest").symlink_to(manifest.directory(Settings(home=parsed_project)))
    with owner(value) as connection:
        connection.execute("delete from system.migrations where store = 'clickhouse'")
    runner.up(value)
    return value


def test_a_store_that_goes_away_for_a_moment_costs_a_retry_and_not_the_run(
    apart: Settings,
    own_clickhouse: ClickHouseServer,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ClickHouse is down when the run begins, and is killed again while dbt builds."""
    back = threading.Event()

    def comes_back(policy: dg.RetryPolicy, attempt: int) -> float:
        """The store returns while the policy waits; that wait, half a minute, is cut short."""
        own_clickhouse.start()
        back.set()
        return 0.0

    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", comes_back)
    with owner(apart) as connection:
        world = World(apart, connection).trade(FIRST, FIRST)
        world.sync()
        world.trade(LAST, LAST)
        own_clickhouse.kill()
        killer = threading.Thread(target=_kill_while_dbt_builds, args=(apart, own_clickhouse, back))
        killer.start()
        result = execute(
            apart,
            instance,
            "metrics_final",
            tags=span(FIRST, LAST),
            run_config={
                "ops": {"raw": {"config": {"control_days_back": (datetime.now(UTC).date() - FIRST).days}}}
            },
        )
        killer.join()
        assert result.success
        retried = [event.step_key for event in result.all_events if event.is_step_up_for_retry]
        assert retried == ["raw", "daily_marts"]
        assert failed_checks(result) == []
        assert len(world.published()) == 4
    assert newest(instance, "marts", "fct_event_sales_daily")["verdict"] in ("swapped", "unchanged")


def _kill_while_dbt_builds(settings: Settings, server: ClickHouseServer, back: threading.Event) -> None:
    """SIGKILL, once, as soon as a table of a build stands there."""
    back.wait(timeout=900)
    client = clickhouse.connect(settings.clickhouse)
    there = "select count() from system.tables where database = 'marts' and position(name, '__build_') > 0"
    until(lambda: client.query(there).first_row[0], "a table of a build", 900)
    client.close()
    server.kill()


# -- the command line beside a run -----------------------------------------------------------------


def bilten(
    settings: Settings, environment: Callable[[Settings], dict[str, str]], *arguments: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bilten_orchestration.cli.main", *arguments],
        env={**environment(settings), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def holder(settings: Settings) -> str | None:
    """Who holds the lock of the builds."""
    with postgres.connect(settings.postgres, "etl", autocommit=True) as connection:
        row = connection.execute(_HOLDERS, (BUILD,)).fetchone()
    return None if row is None else str(row[2])


def test_a_run_and_a_shell_never_build_at_the_same_time(
    world: World,
    instance: dg.DagsterInstance,
    environment: Callable[[Settings], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    impatient = world.settings.model_copy(
        update={"metrics": world.settings.metrics.model_copy(update={"lock_wait_seconds": 0})}
    )
    world.trade(FIRST, LAST).sync()
    told: list[tuple[int, str, str]] = []

    def beside() -> None:
        """A build by hand as soon as the run holds the lock."""

        def building() -> str | None:
            name = holder(impatient) or ""
            return name if name.startswith("bilten build ") and "whole" not in name else None

        name = until(building, "the lock to be the run's", 900)
        assert name is not None
        command = bilten(
            impatient, environment, "metrics", "build", "--from", str(FIRST), "--to", str(LAST), "--json"
        )
        out, _ = command.communicate(timeout=900)
        told.append((command.returncode, out, name))

    thread = threading.Thread(target=beside)
    thread.start()
    run = execute(impatient, instance, "metrics_late_days", tags=span(FIRST, LAST))
    thread.join()
    assert run.success
    [(code, out, name)] = told
    assert name == f"bilten build {run.dagster_run.run_id[:8]}"
    assert code == 3
    [problem] = json.loads(out)["problems"]
    assert "is held by another runner" in problem["what"]
    assert name in problem["found"]

    # the other way round: a shell builds, the run finds the lock taken, waits by its policy, and succeeds
    world.kolkata.order(datetime(2026, 3, 2, 9, tzinfo=UTC), amount="33.00")
    world.sync()
    patient = bilten(
        world.settings, environment, "metrics", "build", "--from", str(FIRST), "--to", str(LAST), "--json"
    )
    waits: list[int] = []

    def waits_for_the_shell(policy: dg.RetryPolicy, attempt: int) -> float:
        waits.append(attempt)
        patient.wait(timeout=900)
        return 0.0

    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", waits_for_the_shell)
    until(lambda: holder(impatient) or patient.poll() is not None, "the lock to be the shell's", 900)
    assert patient.poll() is None
    run = execute(impatient, instance, "metrics_late_days", tags=span(FIRST, LAST))
    out, _ = patient.communicate(timeout=900)
    assert patient.returncode == 0
    assert json.loads(out)["ok"]
    assert run.success
    assert waits == [1]
    assert newest(instance, "marts", "fct_event_sales_daily")["verdict"] == "unchanged"
