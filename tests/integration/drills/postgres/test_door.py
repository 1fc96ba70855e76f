"""PostgreSQL through the door of all drills: the daily way and another one, attested, marked, recorded."""

from __future__ import annotations

import pytest

from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import attestation, plan
from bilten_orchestration.drills.run import run
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.conftest import selling
from tests.waiting import until


@pytest.mark.faults
def test_two_ways_a_day_and_another_one_the_next(shop: Source) -> None:
    told: list[str] = []
    until(
        lambda: shop.execute("select 1 from system.rpo_samples where reachable_until is not null"), "a sample"
    )
    with selling(shop):
        exact, other = run(shop.settings, "postgres", run="a-run", progress=told.append)
    assert exact.ok, exact.problems
    assert (exact.way, other.way) == ("exact", plan.due("postgres", {})[1].name)
    assert exact.rto_seconds is not None
    assert exact.rpo_seconds is not None
    assert exact.rpo_seconds < 300
    assert exact.counts
    with Opened.of(shop.settings, new=False) as opened:
        series = attestation.read(opened.repository, opened.ring, "postgres")
        found = catalogue.read(opened.repository, opened.ring, "postgres")
    assert series.problems == ()
    assert [each.report for each in series.drills] == [exact, other]
    drilled = {backup.manifest.id for backup in found.backups if backup.state == "drilled"}
    assert set(exact.backups) <= drilled
    rows = shop.execute("select id::text, way, ok, run_id from system.restore_drills order by started_at")
    assert [tuple(row) for row in rows] == [(each.id, each.way, each.ok, "a-run") for each in (exact, other)]
    assert not (shop.settings.home / "drill-postgres").exists()
    assert other.ok, other.problems
    walked = {each.way: plan.Walked(each.finished_at, each.ok) for each in (exact, other)}
    assert [each.name == other.way for each in plan.due("postgres", walked)] == [False, False]
