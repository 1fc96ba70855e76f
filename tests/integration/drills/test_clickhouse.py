"""The drill of ClickHouse, in an engine of its own beside the live one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.clickhouse.base import take
from bilten_orchestration.drills import clickhouse as of_clickhouse
from bilten_orchestration.drills.run import run
from tests.conftest import Servers
from tests.integration.backups.clickhouse.world import ROWS, World, made
from tests.kills import killed_before_line
from tests.processes import at_work_in


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    with made(servers) as found:
        yield found


def test_the_newest_chain_into_an_engine_of_its_own(world: World) -> None:
    full = take(world.settings).manifest
    world.client.command("insert into marts.empty select number from numbers(10)")
    newest = take(world.settings, "incremental").manifest
    before = world.digest()
    killed = killed_before_line(lambda: run(world.settings, "clickhouse"), [of_clickhouse], 40)
    assert killed
    place = world.settings.home / "drill-clickhouse"
    assert (place / "clickhouse").exists()
    told: list[str] = []
    (report,) = run(world.settings, "clickhouse", progress=told.append)
    assert report.ok, report.problems
    assert any("that was killed left" in text for text in told)
    assert not place.exists()
    assert report.backups == (full.id, newest.id)
    assert {"find", "start", "check", "restore", "first_query", "proof"} <= set(report.phases)
    assert report.rto_seconds is not None
    assert report.rto_seconds < sum(report.phases.values())
    assert report.counts["analytics.events"] == ROWS
    assert report.counts["marts.empty"] == 10
    proofs = {proof.name: proof for proof in report.proofs}
    (whole,) = (proof for name, proof in proofs.items() if name.startswith("every object"))
    assert whole.ok
    (agreed,) = (proof for name, proof in proofs.items() if name.startswith("marts built from"))
    assert agreed.warns, "no batch of PostgreSQL: nothing could be compared, and that is said"
    assert not agreed.ok
    assert world.digest() == before
    assert [each.state for each in world.listed()] == ["drilled", "drilled"]


@pytest.mark.faults
def test_a_part_with_a_flipped_bit(world: World) -> None:
    taken = take(world.settings).manifest
    name = next(each.name for each in taken.objects if each.name.endswith("data.bin"))
    body = world.body(name)
    world.put(name, body[:-1] + bytes([body[-1] ^ 1]))
    (report,) = run(world.settings, "clickhouse")
    assert (report.ok, report.failed_phase) == (False, "restore")
    assert name in report.problems[0].what
    assert [each.state for each in world.listed()][-1] == "complete"
    assert not (world.settings.home / "drill-clickhouse").exists()


@pytest.mark.faults
def test_a_part_that_was_damaged_before_its_backup(servers: Servers) -> None:
    """Its SHA-256 is that of the damaged file, so every object is the one that was written: CHECK TABLE alone
    finds it."""
    with made(servers) as world:
        ((path,),) = world.client.query(
            "select path from system.parts where active and database = 'analytics' and table = 'events'"
            " order by rows desc limit 1"
        ).result_rows
        file = max(Path(path).glob("*.bin"), key=lambda each: each.stat().st_size)
        body = file.read_bytes()
        half = len(body) // 2
        file.write_bytes(body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :])
        taken = take(world.settings).manifest
        (report,) = run(world.settings, "clickhouse")
        assert (report.ok, report.failed_phase) == (False, "restore")
        (problem,) = report.problems
        assert "CHECK TABLE" in str(problem)
        assert "events" in str(problem)
        assert problem.next
        assert [(each.manifest.id, each.state) for each in world.listed()] == [(taken.id, "complete")]
        assert not (world.settings.home / "drill-clickhouse").exists()


@pytest.mark.faults
def test_the_engine_dies_before_marts_are_compared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to compare here, which warns and passes: the drill is red for the engine's sake."""
    take(world.settings)
    agree = of_clickhouse._agree

    def killed_first(*arguments: Any) -> None:
        for process in at_work_in(world.settings.home / "drill-clickhouse"):
            process.kill()
        agree(*arguments)

    monkeypatch.setattr(of_clickhouse, "_agree", killed_first)
    (report,) = run(world.settings, "clickhouse")
    assert (report.ok, report.failed_phase) == (False, "agree")
    (problem,) = report.problems
    assert problem.what == "the engine that was restored into ended while it was asked"
    assert problem.next
    assert not (world.settings.home / "drill-clickhouse").exists()
