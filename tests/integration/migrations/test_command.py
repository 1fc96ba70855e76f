"""`bilten migrate` as people and scripts call it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres

Environment = Callable[[Settings], dict[str, str]]


def bilten(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import typer; from bilten_orchestration.cli import migrate;"
        " app = typer.Typer(); migrate.register(app); app()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "migrate", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def document(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.stdout)
    assert found.keys() == {"ok", "command", "at", "result", "problems"}
    return found


def test_status_up_and_down(empty_settings: Settings, environment: Environment) -> None:
    environ = environment(empty_settings)
    before = document(bilten(environ, "status", "--json"))
    assert before["ok"]
    assert before["result"]["pending"] == len(before["result"]["migrations"]) > 10

    answer = bilten(environ, "up", "--store", "postgres", "--json")
    assert answer.returncode == 0, answer.stderr
    assert "postgres V0001" in answer.stderr
    applied = document(answer)["result"]["steps"]
    assert {step["direction"] for step in applied} == {"up"}
    newest = applied[-1]["version"]

    shown = bilten(environ, "down", "--store", "postgres", "--to", str(newest - 1))
    assert shown.returncode == 0
    assert "nothing was changed" in shown.stdout
    assert "grant usage on schema public to public" in shown.stdout
    done = document(
        bilten(environ, "down", "--store", "postgres", "--to", str(newest - 1), "--execute", "--json")
    )
    assert [step["version"] for step in done["result"]["steps"]] == [newest]
    assert (
        document(bilten(environ, "status", "--json"))["result"]["migrations"][newest - 1]["state"]
        == "pending"
    )


def test_exit_codes_and_messages(empty_settings: Settings, environment: Environment) -> None:
    environ = environment(empty_settings)
    wrong = bilten(environ, "up", "--to", "1")
    assert wrong.returncode == 2
    assert "a target version counts for one store" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    unknown = bilten(environ, "down", "--store", "postgres", "--to", "77", "--json")
    assert unknown.returncode == 2
    assert not document(unknown)["ok"]

    assert bilten(environ, "up", "--store", "postgres").returncode == 0
    with postgres.connect(empty_settings.postgres, autocommit=True) as connection:
        connection.execute("update system.migrations set checksum = repeat('0', 64) where version = 2")
        connection.execute("update system.migrations set status = 'running' where version = 9")
    status = bilten(environ, "status", "--json")
    assert status.returncode == 1
    problems = document(status)["problems"]
    assert any(
        "edited" in problem["what"] and "checksum 000000000000" in problem["expected"] for problem in problems
    )
    assert any("interrupted" in problem["what"] for problem in problems)
    assert all(problem["next"] for problem in problems)
    refused = bilten(environ, "up", "--store", "postgres")
    assert refused.returncode == 1
    assert "edited after it was run" in refused.stderr

    nowhere = bilten(environ | {"BILTEN_POSTGRES__PORT": "1"}, "status")
    assert nowhere.returncode == 3
    assert "Traceback" not in nowhere.stderr
    for answer in (wrong, unknown, status, refused, nowhere):
        assert empty_settings.postgres.password.get_secret_value() not in answer.stdout + answer.stderr
