"""At three in the morning: each command with a store that is away, a wrong password, a wrong argument."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bilten_orchestration.local import ports
from bilten_orchestration.settings import Settings

ROOT = Path(__file__).parents[3]
DAYS = ("--from", "2026-03-01", "--to", "2026-03-01")
EVENT = "00000000-0000-0000-0000-000000000001"
COMMANDS = {
    "sql": ("sql", "select 1"),
    "sync": ("sync",),
    "build": ("metrics", "build", *DAYS),
    "explain": ("explain", "2026-03-01", EVENT, "gross_sales"),
    "partitions": ("partitions", "list"),
}
Environment = Callable[[Settings], dict[str, str]]


def bilten(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-m", "bilten_orchestration.cli.main", *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in found.stdout + found.stderr
    assert "wrong-password" not in found.stdout + found.stderr
    return found


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("sql", "BILTEN_CLICKHOUSE__PORT"),
        ("sync", "BILTEN_POSTGRES__PORT"),
        ("sync", "BILTEN_CLICKHOUSE__PORT"),
        ("build", "BILTEN_POSTGRES__PORT"),
        ("build", "BILTEN_CLICKHOUSE__PORT"),
        ("explain", "BILTEN_CLICKHOUSE__PORT"),
        ("partitions", "BILTEN_POSTGRES__PORT"),
    ],
)
def test_a_store_that_is_away_may_be_tried_again(
    stores: Settings, environment: Environment, command: str, variable: str
) -> None:
    found = bilten(environment(stores) | {variable: str(ports.any_free())}, *COMMANDS[command], "--json")
    assert found.returncode == 3
    document = json.loads(found.stdout)
    assert document["ok"] is False
    [problem] = document["problems"]
    assert problem["what"].endswith("does not answer")
    assert "refused" in problem["found"]
    assert "bilten up" in problem["next"]


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("sql", "BILTEN_CLICKHOUSE__ANALYST_PASSWORD"),
        ("sync", "BILTEN_POSTGRES__ETL_PASSWORD"),
        ("build", "BILTEN_CLICKHOUSE__PASSWORD"),
        ("partitions", "BILTEN_POSTGRES__PASSWORD"),
    ],
)
def test_a_wrong_password_is_named_by_its_variable_and_not_tried_again(
    stores: Settings, environment: Environment, command: str, variable: str
) -> None:
    found = bilten(environment(stores) | {variable: "wrong-password-1234"}, *COMMANDS[command], "--json")
    assert found.returncode == 1
    [problem] = json.loads(found.stdout)["problems"]
    assert "does not accept" in problem["what"]
    assert variable in problem["expected"]
    assert variable in problem["next"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("metrics", "build", "--from", "2026-02-30", "--to", "2026-03-01"), "found '2026-02-30'"),
        (("metrics", "build", "--from", "2026-03-02", "--to", "2026-03-01"), "ends before it begins"),
        (("metrics", "build", "--from", "2026-03-02"), "half a range"),
        (("explain", "2026-03-01", "no-uuid", "gross_sales"), "found 'no-uuid'"),
        (("explain", "2026-03-01", EVENT, "gross"), "gross cannot be explained"),
        (("sql", "selec 1"), "Syntax error"),
        (("partitions", "nosuch"), "nosuch"),
    ],
)
def test_a_wrong_call_says_what_it_expects(
    settings: Settings, environment: Environment, arguments: tuple[str, ...], told: str
) -> None:
    found = bilten(environment(settings), *arguments)
    assert found.returncode == 2
    assert told in found.stderr
    assert found.stdout == ""


def test_explaining_before_anything_was_built_is_no_defect(
    settings: Settings, environment: Environment
) -> None:
    found = bilten(environment(settings), *COMMANDS["explain"])
    assert found.returncode == 1
    assert "refused a statement of the explanation" in found.stderr
    assert "next:" in found.stderr
