"""kill -9 between any two steps of a backfill; run again, equal to a clean build.

The build runs in a process of its own whose progress callback kills it at its n-th message: every step
and every node of dbt is one. dbt dies with it, in the middle of whatever it does.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bilten_orchestration.metrics.build import build
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests.integration.metrics.conftest import world  # noqa: F401 (a fixture)
from tests.integration.metrics.test_build import build_tables, dirty_days, journal
from tests.integration.metrics.world import FIRST, World, later

LAST = later(FIRST, 29)
GATES_BETWEEN_KILLS = 4
MARTS = (
    "fct_event_sales_daily",
    "fct_ticket_type_sales_daily",
    "fct_event_audience_daily",
    "fct_organization_audience_daily",
    "fct_traffic_sources_daily",
)
BUILD = """
import os, signal, sys
from datetime import date
from bilten_orchestration.metrics.build import build
from bilten_orchestration.settings.loading import load_settings
left = int(sys.argv[1])
def progress(text):
    global left
    left -= 1
    print(text, flush=True)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
first, last = (date.fromisoformat(text) for text in sys.argv[2:4])
report = build(load_settings(), first, last, progress=progress, refresh_whole=False)
print("ended", report.build_id, flush=True)
"""


def killed_at(
    step: int, settings: Settings, environment: Callable[[Settings], dict[str, str]]
) -> list[str] | None:
    """The steps it told before it was killed; None when it ended before that step."""
    found = subprocess.run(
        [sys.executable, "-c", BUILD, str(step), str(FIRST), str(LAST)],
        env=environment(settings)
        | {"PYTHONPATH": str(Path(__file__).parents[3]), "BILTEN_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode in (0, -signal.SIGKILL), found.stderr[-3000:]
    if found.returncode == 0:
        return None
    children = [process for process in psutil.process_iter(["cmdline"]) if _is_dbt_of(settings, process)]
    psutil.wait_procs(children, timeout=30)
    assert not [child for child in children if child.is_running()], "dbt outlived the build"
    return found.stdout.splitlines()


def _is_dbt_of(settings: Settings, process: psutil.Process) -> bool:
    try:
        return process.environ().get("DBT_TARGET_PATH", "").startswith(f"{settings.home}/")
    except psutil.Error:
        return False


def everything(world: World) -> dict[str, list[tuple[object, ...]]]:  # noqa: F811
    found = {mart: world.digest(mart) for mart in MARTS}
    assert len(found["fct_event_sales_daily"]) == 30
    return found


def forget(settings: Settings) -> None:
    """As if nothing had ever been built."""
    client = clickhouse.connect(settings.clickhouse)
    for mart in MARTS:
        client.command(f"truncate table if exists marts.{mart}")
    for table in ("mart_days", "mart_verdicts", "metric_restatements"):
        client.command(f"truncate table analytics.{table}")
    client.close()
    with postgres.connect(settings.postgres, "etl", autocommit=True) as connection:
        connection.execute("delete from system.build_journal")
        connection.execute("update system.metric_dirty_days set built_generation = 0")


def prepared(world: World) -> tuple[dict[str, list[tuple[object, ...]]], list[str]]:  # noqa: F811
    """What a clean build publishes, and the steps that one tells which finds its views made."""
    settings = world.settings
    world.trade(FIRST, LAST).sync()
    assert build(settings, FIRST, LAST, refresh_whole=False).problems == ()
    clean = everything(world)
    forget(settings)
    told: list[str] = []
    assert build(settings, FIRST, LAST, refresh_whole=False, progress=told.append).problems == ()
    assert everything(world) == clean
    return clean, told


def check_kill(
    world: World,  # noqa: F811
    environment: Callable[[Settings], dict[str, str]],
    step: int,
    clean: dict[str, list[tuple[object, ...]]],
) -> None:
    settings = world.settings
    forget(settings)
    told = killed_at(step, settings, environment)
    assert told is not None, f"the build has no step {step}"
    ended = any("mart days" in line for line in told)  # killed after its last step
    assert bool(dirty_days(settings)) != ended, told[-1]
    report = build(settings, FIRST, LAST, refresh_whole=False)
    assert report.problems == (), told[-1]
    assert report.resumed == (not ended and any(line.startswith("build ") for line in told)), told[-1]
    assert everything(world) == clean, f"killed after: {told[-1]}"
    assert set(journal(settings)) <= {"swapped", "unchanged"}
    assert build_tables(settings) == 0
    assert dirty_days(settings) == []
    client = clickhouse.connect(settings.clickhouse)
    restated = client.query("select count() from analytics.metric_restatements").first_row[0]
    client.close()
    assert restated == 0, "nothing had been published before"


@pytest.mark.faults
def test_killed_in_the_middle_of_the_swaps(
    world: World,  # noqa: F811
    environment: Callable[[Settings], dict[str, str]],
) -> None:
    clean, told = prepared(world)
    swaps = [number for number, line in enumerate(told, 1) if any(f" {mart}: " in line for mart in MARTS)]
    check_kill(world, environment, swaps[len(swaps) // 2], clean)


@pytest.mark.faults
def test_killed_between_any_two_steps_of_a_30_day_backfill(
    world: World,  # noqa: F811
    environment: Callable[[Settings], dict[str, str]],
) -> None:
    """Every step of the engine, every table, every swap; of the tests (a verdict each) every fourth."""
    clean, told = prepared(world)
    is_test = [": pass in " in line for line in told]
    steps = [
        number
        for number, test in enumerate(is_test, 1)
        if not test or sum(is_test[:number]) % GATES_BETWEEN_KILLS == 0
    ]
    assert len(steps) >= 20, told
    for step in steps:
        check_kill(world, environment, step, clean)
