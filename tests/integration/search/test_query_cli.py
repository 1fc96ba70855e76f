"""`bilten search query` as people and machines call it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bilten_orchestration.cli import main
from bilten_orchestration.search import definition
from bilten_orchestration.settings import Settings, loading
from bilten_orchestration.stores import opensearch
from tests.conftest import Servers
from tests.integration.search.corpus import event, fill, key

INDEX = "events-test-cli"


@pytest.fixture
def run(servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    client = opensearch.connect(servers.opensearch, timeout_seconds=120)
    fill(client, INDEX, (event(1, "Midnight Jazz"), event(2, "Jazz\x1b[31m Choir"), event(3, "Open Data")))
    client.indices.put_alias(index=INDEX, name=definition.ALIAS)
    settings = Settings(home=tmp_path, opensearch=servers.opensearch)
    monkeypatch.setattr(loading, "load_settings", lambda: settings)

    def called(*arguments: str) -> Result:
        return CliRunner().invoke(main.build(), ["search", "query", *arguments], env={"COLUMNS": "80"})

    yield called
    client.indices.delete(index=INDEX)
    client.close()


def test_for_machines(run: Any) -> None:
    first = json.loads(run("jazz", "--size", "1", "--json").stdout)
    assert (first["ok"], first["command"], first["result"]["total"]) == (True, "search query", 2)
    (hit,) = first["result"]["hits"]
    assert (hit["id"], hit["title"]) == (key(1), "Midnight Jazz")
    assert hit["score"] > 0
    more = json.loads(run("jazz", "--size", "1", "--after", first["result"]["next_cursor"], "--json").stdout)
    assert [hit["id"] for hit in more["result"]["hits"]] == [key(2)]
    filtered = run("--from", "2026-05-02", "--to", "2026-05-03", "--price", "EUR:5:20", "--json")
    assert [hit["id"] for hit in json.loads(filtered.stdout)["result"]["hits"]] == [key(2)]


def test_for_people(run: Any) -> None:
    told = run("jazz")
    assert told.exit_code == 0
    assert told.stdout.startswith("2 events in ")
    assert "10 to 40 EUR, available" in told.stdout
    # a title is somebody's text, and no command to the terminal
    assert "\x1b" not in told.stdout
    assert "Jazz?[31m Choir" in told.stdout


def test_everything_wrong_is_told_at_once(run: Any) -> None:
    wrong = run("--near", "here", "--price", "EUR:x", "--sort", "best", "--size", "1000", "--json")
    assert wrong.exit_code == 2
    assert [problem["what"] for problem in json.loads(wrong.stdout)["problems"]] == [
        "the place is not understood",
        "the price is not understood",
        "there is no such order",
        "the page size is out of bounds",
    ]
