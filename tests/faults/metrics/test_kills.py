"""kill -9 between any two steps of a backfill; run again, equal to a clean build.

The build runs in a process of its own that is killed at its n-th message: every step and every node of dbt is
one. dbt dies with it, in the middle of whatever it does.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from bilten_orchestration.metrics.build import build
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests import dbt_forks as calls_of_dbt
from tests.integration.metrics.conftest import world  # noqa: F401 (a fixture)
from tests.integration.metrics.test_build import build_tables, dirty_days, journal
from tests.integration.metrics.world import FIRST, World, later
from tests.kills import killed_when_told
from tests.processes import living
from tests.waiting import until

LAST = later(FIRST, 29)
GATES_BETWEEN_KILLS = 4
MARTS = (
    "fct_event_sales_daily",
    "fct_ticket_type_sales_daily",
    "fct_event_audience_daily",
    "fct_organization_audience_daily",
    "fct_traffic_sources_daily",
)


def killed_at(settings: Settings, step: int, forks: Path | None) -> list[str]:
    """The steps that a build told before it was killed at its n-th; dbt (of `forks`) is gone with it."""
    told = killed_when_told(
        lambda tell: build(settings, FIRST, LAST, progress=tell, refresh_whole=False), times=step
    )
    until(lambda: not (calls_of_dbt.calls(forks) if forks else started_for(settings)), "the end of its dbt")
    return told


def started_for(settings: Settings) -> list[psutil.Process]:
    """Processes of dbt that production started, by where they write."""
    return living(
        lambda process: process.environ().get("DBT_TARGET_PATH", "").startswith(f"{settings.home}/")
    )


def everything(world: World) -> dict[str, list[tuple[object, ...]]]:  # noqa: F811
    found = {mart: world.digest(mart) for mart in MARTS}
    assert [len(days) for days in found.values()] == [30] * len(MARTS)
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
    world.trade(FIRST, LAST).browse(FIRST, LAST).sync()
    assert build(settings, FIRST, LAST, refresh_whole=False).problems == ()
    clean = everything(world)
    forget(settings)
    told: list[str] = []
    assert build(settings, FIRST, LAST, refresh_whole=False, progress=told.append).problems == ()
    assert everything(world) == clean
    return clean, told


def check_kill(
    world: World,  # noqa: F811
    forks: Path | None,
    step: int,
    clean: dict[str, list[tuple[object, ...]]],
) -> None:
    settings = world.settings
    forget(settings)
    told = killed_at(settings, step, forks)
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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dbt started as production does."""
    clean, told = prepared(world)
    swaps = [number for number, line in enumerate(told, 1) if any(f" {mart}: " in line for mart in MARTS)]
    monkeypatch.undo()
    check_kill(world, None, swaps[len(swaps) // 2], clean)


@pytest.mark.faults
def test_killed_between_any_two_steps_of_a_30_day_backfill(
    world: World,  # noqa: F811
    dbt_forks: Path,
) -> None:
    """Every step of the engine, every table, every swap; of the tests every fourth.

    A test of dbt leaves one thing behind: its row in analytics.mart_verdicts, under a run id whose verdicts
    the next attempt deletes before its first one. So a kill after one test differs from a kill after the next
    by a row that nobody will read, and each costs a whole build of 30 days. Every fourth still falls
    between the verdicts of each mart. One kill between two swaps is in every run of the tests:
    tests/integration/dbt/test_day_swap.py, test_killed_between_two_swaps_and_run_again.
    """
    clean, told = prepared(world)
    is_test = [": pass in " in line for line in told]
    steps = [
        number
        for number, test in enumerate(is_test, 1)
        if not test or sum(is_test[:number]) % GATES_BETWEEN_KILLS == 0
    ]
    assert len(steps) >= 20, told
    for step in steps:
        check_kill(world, dbt_forks, step, clean)
