"""A lost database on the embedded stack, as docs/disaster-recovery.md tells it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import load_settings
from bilten_orchestration.stores import postgres
from tests.e2e.test_up import Stack
from tests.stack import make_base

pytestmark = pytest.mark.faults
REACH_SECONDS = 120


@pytest.fixture
def stack() -> Iterator[Stack]:
    base = make_base(
        "bilten-e2e-site-", before_removal=lambda old: Stack(old / ".bilten").run("down", check=False)
    )
    made = Stack(base / ".bilten")
    try:
        made.up("--no-demo")
        yield made
    finally:
        made.run("down", check=False)
        shutil.rmtree(base, ignore_errors=True)


def _settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("BILTEN_HOME", str(stack.home))
    return load_settings()


def _add(settings: Settings, name: str) -> datetime:
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        connection.execute("insert into users.organizations (name) values (%s)", (name,))
        row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    return datetime.fromisoformat(str(row[0]))


def _names(settings: Settings) -> set[str]:
    with postgres.connect(settings.postgres) as connection:
        return {name for (name,) in connection.execute("select name from users.organizations").fetchall()}


def _await_reach(stack: Stack, moment: datetime) -> None:
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        found = json.loads(stack.run("reach", "--json", check=False).stdout)
        spans = found["result"]["spans"]
        if any(datetime.fromisoformat(span["to"]) >= moment for span in spans):
            return
        assert time.monotonic() < deadline, found
        time.sleep(1)


def _recover(stack: Stack, *arguments: str) -> dict[str, Any]:
    command = ("recover", "site", "--store", "postgres", "--bucket", "first", "--json", *arguments)
    return dict(json.loads(stack.run(*command, check=False).stdout))


def test_the_database_is_lost(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(stack, monkeypatch)
    _add(settings, "before the backup")
    stack.run("sync")
    stack.run("backup", "create", "postgres")
    _await_reach(stack, _add(settings, "behind it"))
    stack.run("sync")
    # where it is refused nothing was stopped
    before = stack.status()
    refused = _recover(stack, "--execute")
    assert not refused["ok"]
    assert any("is not empty" in problem["what"] for problem in refused["problems"])
    after = stack.status()
    assert {name: each["pid"] for name, each in after.items()} == {
        name: each["pid"] for name, each in before.items()
    }
    stack.run("down")
    directory = data_directory(settings) / "postgres"
    directory.rename(directory.with_name("postgres.lost"))
    preview = _recover(stack)
    assert preview["ok"], preview
    assert not directory.exists()

    done = _recover(stack, "--execute")
    assert done["ok"], done
    assert done["result"]["settled"]["equal"] is True
    assert _names(_settings(stack, monkeypatch)) == {"before the backup", "behind it"}
    stack.up("--no-demo")
    assert all(program["ok"] for program in stack.status().values())
    assert not (stack.home / "recover-site.json").exists()
