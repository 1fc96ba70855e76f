"""Clocks that are apart: nothing is told of what would be lost, and the drill says which of them differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import clocks, promises
from bilten_orchestration.drills.report import CLOCKS_APART
from bilten_orchestration.drills.run import run
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres

HOUR, YEAR = timedelta(hours=1), timedelta(days=365)
SKEWS = [
    HOUR,
    pytest.param(-HOUR, marks=pytest.mark.faults),
    pytest.param(YEAR, marks=pytest.mark.faults),
    pytest.param(-YEAR, marks=pytest.mark.faults),
]


@pytest.mark.parametrize("skew", SKEWS)
def test_this_machine(here: Settings, monkeypatch: pytest.MonkeyPatch, skew: timedelta) -> None:
    take(here)
    monkeypatch.setattr(clocks, "here", lambda: datetime.now(UTC) + skew)
    (report,) = run(here, "redis")
    assert (report.ok, report.rpo_seconds, report.failed_phase) == (False, None, clocks.PHASE)
    said = [problem.what for problem in report.problems]
    assert said == [
        "the clocks of this machine and of the object store differ",
        "the clocks of this machine and of PostgreSQL differ",
    ]
    told = report.problems[0].found.partition(" UTC, ")[2].partition(" s apart")[0]
    assert abs(int(told.replace(",", "")) - abs(skew).total_seconds()) < CLOCKS_APART.total_seconds()
    # what came back was proven all the same, and counts for nothing
    assert report.proofs
    assert all(proof.ok or proof.warns for proof in report.proofs)
    monkeypatch.undo()
    with Opened.of(here, new=False) as opened:
        (backup,) = catalogue.read(opened.repository, opened.ring, "redis").backups
    assert backup.state == "complete"
    kept = {
        each.name: each.kept for each in promises.judge("redis", [report], here.drills, datetime.now(UTC))
    }
    assert not kept[promises.RPO]
    assert not kept[promises.RECENT]
    assert run(here, "redis")[0].ok


@pytest.mark.parametrize("skew", SKEWS)
def test_the_times_of_the_backup(here: Settings, skew: timedelta) -> None:
    taken = take(here).manifest
    with _dated(here, taken, skew) as wrong:
        (report,) = run(here, "redis")
    assert not report.ok
    assert report.rpo_seconds is None
    assert [problem.what for problem in report.problems if "clocks" in problem.what] == [
        f"the clocks by which {wrong} and its object were dated differ"
    ]


@contextmanager
def _dated(settings: Settings, manifest: Manifest, skew: timedelta) -> Iterator[str]:
    """The only backup there is, as a machine writes it whose clock is wrong."""
    wrong = replace(
        manifest,
        id=f"{manifest.id}-skewed",
        started_at=manifest.started_at + skew,
        finished_at=manifest.finished_at + skew,
        consistent_at=manifest.consistent_at and manifest.consistent_at + skew,
    )
    with Opened.of(settings) as opened:
        opened.repository.remove(f"{catalogue.place_of('redis', manifest.id)}/manifest.json")
        catalogue.add(opened.repository, opened.ring, wrong)
        yield wrong.id


def test_samples(here: Settings) -> None:
    """Those of PostgreSQL, of a server whose clock was set back since; no drill is needed to see it."""
    from bilten_orchestration.drills.record import Record

    with postgres.connect(here.postgres, autocommit=True) as connection, Opened.of(here) as opened:
        found = catalogue.read(opened.repository, opened.ring, "postgres")
        assert clocks.apart(opened.repository, found, Record(here)) == ()
        connection.execute(
            "insert into system.rpo_samples (sampled_at, bucket, reachable_until, rpo_seconds)"
            " values (now() + interval '1 hour', 'b', now() + interval '59 minutes', 60)"
        )
        (problem,) = clocks.apart(opened.repository, found, Record(here))
        assert "samples of b" in problem.what
        connection.execute("update system.rpo_samples set sampled_at = now() - interval '1 hour'")
        (problem,) = clocks.apart(opened.repository, found, Record(here))
        assert "a heartbeat of" in problem.found
