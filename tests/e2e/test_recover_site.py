"""A lost database and a lost site on the embedded stack, as docs/disaster-recovery.md tells it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import load_settings
from bilten_orchestration.stores import postgres
from tests.e2e.test_up import Stack
from tests.stack import make_base, opensearch_jars, start_object_store, stopping
from tests.waiting import until

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


def _await_reach(stack: Stack, moment: datetime, buckets: int = 1) -> None:
    def reached() -> bool:
        spans = json.loads(stack.run("reach", "--json", check=False).stdout)["result"]["spans"]
        found = {span["bucket"] for span in spans if datetime.fromisoformat(span["to"]) >= moment}
        return len(found) >= buckets

    until(reached, f"WAL up to {moment} in {buckets} buckets", REACH_SECONDS, every=3)


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


def _sites(base: Path, second: dict[str, str]) -> Iterator[Stack]:
    """Machines, one after the other, that share nothing but the second bucket."""
    for name in ("one", "another"):
        stack = Stack(base / name / ".bilten", search=True)
        stack.home.mkdir(parents=True)
        jars = opensearch_jars(base)
        shutil.copytree(jars, stack.home / "jars" / jars.name)
        stack.own |= second
        yield stack


def _publish(settings: Settings, titles: list[str]) -> None:
    with postgres.connect(settings.postgres) as connection:
        row = connection.execute(
            "insert into users.users (email, password_hash, role)"
            " values ('organizer@example.org', 'x', 'organizer') returning id"
        ).fetchone()
        assert row is not None
        for title in titles:
            connection.execute(
                "insert into events.events (organizer_id, title, start_date, end_date, status, visibility)"
                " values (%s, %s, now() + interval '30 days', now() + interval '31 days', 'published',"
                " 'public')",
                (row[0], title),
            )


def _found(stack: Stack, text: str) -> list[str]:
    answer = json.loads(stack.run("search", "query", text, "--json").stdout)
    return [hit["title"] for hit in answer["result"]["hits"]]


def test_the_site_is_lost_with_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything from the second bucket on an empty machine: the index is built anew, and proven equal."""

    def ended(old: Path) -> None:
        for home in old.glob("*/.bilten"):
            Stack(home).run("down", check=False)

    base = make_base("bilten-e2e-lost-", before_removal=ended)
    with stopping() as running:
        server, store = start_object_store(base, "second")
        running.append(server)
        second = {
            "BILTEN_OBJECT_STORE__COPY_ENDPOINT_URL": str(store.endpoint_url),
            "BILTEN_OBJECT_STORE__COPY_ACCESS_KEY_ID": store.access_key_id.get_secret_value(),
            "BILTEN_OBJECT_STORE__COPY_SECRET_ACCESS_KEY": store.secret_access_key.get_secret_value(),
        }
        for name, value in second.items():
            monkeypatch.setenv(name, value)
        one, another = _sites(base, second)
        try:
            one.up("--no-demo")
            _publish(_settings(one, monkeypatch), ["Jazz in the harbour", "Pottery at night"])
            one.run("sync")
            one.run("search", "reindex")
            for name in ("postgres", "clickhouse", "redis"):
                one.run("backup", "create", name)
            # behind every backup, and in the index that is lost with the site
            settings = _settings(one, monkeypatch)
            with postgres.connect(settings.postgres) as connection:
                connection.execute("update events.events set title = 'Glass at noon' where title ~ 'Pottery'")
            one.run("search", "delta")
            one.run("backup", "copy")
            _await_reach(one, _add(settings, "the last"), buckets=2)
            one.run("down")
            shutil.copy(one.home / "backup-keys.json", another.home / "backup-keys.json")
            shutil.rmtree(one.home)

            planned = json.loads(another.run("recover", "site", "--json", check=False).stdout)
            assert planned["ok"], planned
            assert any("search" in step for step in planned["result"]["plan"]["steps"])
            done = json.loads(another.run("recover", "site", "--execute", "--json", check=False).stdout)
            assert done["ok"], done
            settled = done["result"]["settled"]
            assert settled["equal"] is True
            assert (settled["search"]["equal"], settled["search"]["documents"]) == (True, 2)
            assert "the last" in _names(_settings(another, monkeypatch))
            another.up("--no-demo")
            assert all(program["ok"] for program in another.status().values())
            status = json.loads(another.run("search", "status", "--json").stdout)
            assert status["result"]["index"] == settled["search"]["index"]
            assert _found(another, "glass") == ["Glass at noon"]
            assert _found(another, "pottery") == []
            drift = json.loads(another.run("search", "drift", "--all", "--json").stdout)
            assert drift["ok"]
            assert drift["result"]["compared"]["differences"] == []
            # the next change finds its way, on the new epoch
            with postgres.connect(_settings(another, monkeypatch).postgres) as connection:
                connection.execute("update events.events set title = 'Brass at noon' where title ~ 'Glass'")
            another.run("search", "delta")
            assert _found(another, "brass") == ["Brass at noon"]
        finally:
            for stack in (one, another):
                stack.run("down", check=False)
            shutil.rmtree(base, ignore_errors=True)
