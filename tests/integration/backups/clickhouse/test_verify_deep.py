"""A backup of ClickHouse, proven in an engine of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bilten_orchestration.backups.clickhouse.base import take
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import Refused
from bilten_orchestration.settings import Settings
from tests.conftest import Servers
from tests.integration.backups.clickhouse.world import ROWS, World, made
from tests.processes import at_work_in

KILLED = """
import os, signal, sys
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.settings.loading import load_settings
def progress(text):
    if text == "rows":
        os.kill(os.getpid(), signal.SIGKILL)
verify(load_settings(), sys.argv[1], by="a test", deep=True, progress=progress)
"""


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    with made(servers) as found:
        yield found


def test_it_is_restored_beside_the_live_server(
    world: World, environment: Callable[[Settings], dict[str, str]]
) -> None:
    taken = take(world.settings).manifest
    place = world.settings.home / "verify"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, taken.id],
        env=environment(world.settings) | {"PYTHONPATH": str(Path(__file__).parents[4])},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    assert (place / "clickhouse" / "data").exists()
    assert [each.state for each in world.listed()] == ["complete"]

    before, tables = world.digest(), _tables(world)
    told: list[str] = []
    report = verify(world.settings, taken.id, by="a test", deep=True, progress=told.append)
    assert report.problems == ()
    assert any("that was killed left" in text for text in told)
    assert report.deep.startswith("restored into an empty engine and accepted by CHECK TABLE: ")
    assert not place.exists()
    assert at_work_in(place) == []
    assert (world.digest(), _tables(world)) == (before, tables), "the live server is not asked for anything"
    (listed,) = world.listed()
    assert listed.state == "verified"
    (mark,) = listed.marks
    assert mark.by == "a test"
    assert mark.details["rows of analytics.events"] == str(ROWS)

    # its first restore is known now: a count.txt that says otherwise is no ClickHouse error
    name = next(each.name for each in taken.objects if each.name.endswith("/count.txt"))
    body = world.body(name)
    world.put(name, body[:-1] + bytes([body[-1] ^ 1]))
    (problem,) = verify(world.settings, taken.id, by="a test", deep=True).problems
    assert name in problem.what
    world.put(name, body)


def test_without_an_engine_it_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from bilten_orchestration.backups.clickhouse import scratch

    taken = take(world.settings).manifest
    monkeypatch.setattr(scratch, "_ENGINE", "no_such_engine")
    with pytest.raises(Refused, match="--to-url another server"):
        verify(world.settings, taken.id, by="a test", deep=True)
    assert [each.state for each in world.listed() if each.manifest.id == taken.id] == ["complete"]


def _tables(world: World) -> list[tuple[str, ...]]:
    query = "select database, name from system.tables where database <> 'system' order by all"
    return [tuple(row) for row in world.client.query(query).result_rows]
