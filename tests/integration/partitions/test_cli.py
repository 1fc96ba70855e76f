"""`bilten partitions plan|apply|restore` as people and machines call it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bilten_orchestration.cli import main
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.settings import loading
from tests.integration.partitions.conftest import Shelf, months_ago

MONTH = Period.of(months_ago(20))
NAME = f"users.user_behavior_{MONTH.suffix}"


@pytest.fixture
def run(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With the tables as they are declared: 13 months of users.user_behavior are kept."""
    monkeypatch.setattr(loading, "load_settings", lambda: shelf.settings)

    def called(*arguments: str) -> Result:
        return CliRunner().invoke(main.build(), ["partitions", *arguments], env={"COLUMNS": "80"})

    return called


def test_plan_apply_and_restore(shelf: Shelf, run: Any) -> None:
    shelf.fill(MONTH.first, 30)
    shelf.fill(months_ago(0))
    content = shelf.content(NAME)

    planned = run("plan", "--json")
    assert planned.exit_code == 0
    document = json.loads(planned.stdout)
    assert (document["ok"], document["command"]) == (True, "partitions plan")
    ours = [each for each in document["result"]["actions"] if each["partition"] == NAME]
    assert [each["action"] for each in ours] == ["detach", "archive", "drop"]
    assert {"table", "partition", "action", "reason"} <= ours[0].keys()
    assert shelf.exists(NAME)
    told = run("plan")
    assert told.exit_code == 0
    assert max(map(len, told.stdout.splitlines())) <= 80

    applied = run("apply")
    assert applied.exit_code == 0, applied.output
    assert max(map(len, applied.stdout.splitlines())) <= 80
    assert f"drop     {NAME}" in applied.stdout
    assert not shelf.exists(NAME)
    # every table that is declared is ready ahead
    assert json.loads(run("plan", "--json").stdout)["result"]["actions"] == []
    assert run("plan").stdout == "nothing to do\n"

    restored = run("restore", "users.user_behavior", str(MONTH), "--json")
    assert restored.exit_code == 0
    assert json.loads(restored.stdout)["result"]["way"] == "attached"
    assert shelf.content(NAME) == content
    again = run("restore", "users.user_behavior", str(MONTH))
    assert again.exit_code == 1
    assert "is attached for these bounds" in again.output
    assert run("restore", "users.user_behavior", "January").exit_code == 2


def test_what_hinders_is_told_and_exits_1(shelf: Shelf, run: Any) -> None:
    shelf.owner.execute("create table users.rest partition of users.user_behavior default")
    planned = run("plan", "--json")
    assert planned.exit_code == 1
    assert "users.rest" in json.loads(planned.stdout)["problems"][0]["what"]
