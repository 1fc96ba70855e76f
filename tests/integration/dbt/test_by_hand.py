"""dbt as an analyst calls it: in dbt_project, with what `bilten env` exports and no more of the platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from bilten_orchestration.settings import Settings
from tests.integration.dbt.project import PROJECT, Project
from tests.integration.dbt.scenario import Scenario

BIN = Path(sys.executable).parent


@pytest.fixture
def exported(settings: Settings, environment: Callable[[Settings], dict[str, str]]) -> dict[str, str]:
    """What a shell has after eval "$(bilten env)": no variable of the settings but those."""
    told = subprocess.run(
        [str(BIN / "python"), "-m", "bilten_orchestration.cli.main", "env", "--json"],
        env=environment(settings) | {"BILTEN_HOME": str(settings.home), "PYTHONPATH": str(PROJECT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    variables: dict[str, str] = json.loads(told.stdout)["result"]
    outside = {name: text for name, text in os.environ.items() if not name.startswith(("BILTEN_", "DBT_"))}
    return outside | variables


def test_dbt_build_alone_builds_yesterday_and_passes_every_test(
    client: Client, exported: dict[str, str], target_directory: Path
) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    world = Scenario()
    world.organization("Home")
    world.event("Show", organization="Home")
    world.ticket_type("Seat", "Show")
    world.payment("order", "Show", f"{yesterday} 12:00", "30", tickets=["a", "b", "c"], ticket_type="Seat")
    world.apply(client, controls=[yesterday], as_of=f"{datetime.now(UTC):%F %T}")
    run = subprocess.run(
        [str(BIN / "dbt"), "build"],
        env=exported
        | {"DBT_TARGET_PATH": str(target_directory), "DBT_LOG_PATH": str(target_directory / "logs")},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    results = json.loads((target_directory / "run_results.json").read_text())["results"]
    statuses = {(result["unique_id"].partition(".")[0], result["status"]) for result in results}
    assert statuses == {
        ("model", "success"),
        ("test", "pass"),
        ("unit_test", "pass"),
        ("exposure", "no-op"),
    }
    assert client.query(
        "select toString(metric_date), gross_sales, tickets_sold from marts.fct_event_sales_daily"
    ).result_rows == [(yesterday, Decimal(30), 3)]
    assert client.query("select title, tickets_held from marts.rpt_event_summary").result_rows == [
        ("Show", 3)
    ]


@pytest.mark.parametrize(
    ("age", "code", "status"),
    [
        (timedelta(minutes=30), 0, "pass"),
        pytest.param(timedelta(minutes=90), 0, "warn", marks=pytest.mark.faults),
        (timedelta(hours=25), 1, "error"),
    ],
)
def test_source_freshness_is_the_age_of_the_newest_batch(
    project: Project, client: Client, age: timedelta, code: int, status: str
) -> None:
    world = Scenario()
    world.apply(client, as_of="2026-01-01 00:00")
    world.apply(client, as_of=f"{datetime.now(UTC) - age:%F %T}")
    outcome = project.build("source", "freshness")
    assert outcome.exit_code == code, outcome.output
    results = json.loads((project.target / "sources.json").read_text())["results"]
    assert {result["unique_id"].split(".")[2] for result in results} == {"bilten_raw"}
    assert {result["status"] for result in results} == {status}


def test_a_source_that_was_never_loaded_is_not_fresh(project: Project, client: Client) -> None:
    outcome = project.build("source", "freshness")
    assert outcome.exit_code == 1, outcome.output
