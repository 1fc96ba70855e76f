"""The drill of Redis, and with it the door of all drills: real servers, from the order to the attestation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psutil
import pytest

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.backups.repository.opened import BUCKETS, Opened
from bilten_orchestration.drills import attestation, listing, redis_source
from bilten_orchestration.drills import redis as of_redis
from bilten_orchestration.drills.attestation import Series
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.drills.run import run
from bilten_orchestration.errors import LockHeld, Mismatch, Refused, UsageError
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, postgres, redis
from tests.kills import killed_before_line
from tests.processes import at_work_in

KEYS = 300 + 40 + 40 + 4 + 1


def rows(settings: Settings) -> list[tuple[Any, ...]]:
    with postgres.connect(settings.postgres) as connection:
        return connection.execute(
            "select id::text, store, way, ok, rpo_seconds, rto_seconds, bytes, phases, problems, run_id"
            " from system.restore_drills order by started_at"
        ).fetchall()


def series(settings: Settings) -> Series:
    with Opened.of(settings, new=False) as opened:
        return attestation.read(opened.repository, opened.ring, "redis")


def left_in(settings: Settings) -> list[Any]:
    """Files and processes of drills."""
    place = settings.home / "drill-redis"
    return [*([place] if place.exists() else []), *at_work_in(place)]


def test_from_the_order_to_the_attestation(here: Settings) -> None:
    backup = take(here).manifest
    told: list[str] = []
    (report,) = run(here, "redis", run="a-run", progress=told.append)
    assert report.ok, report.problems
    assert (report.store, report.way, report.backups) == ("redis", "server", (backup.id,))
    assert report.bucket == here.object_store.bucket_backups
    assert {"download", "check", "load", "append", "reload", "first_query", "proof"} < set(report.phases)
    assert report.rto_seconds is not None
    assert 0 < report.rto_seconds < sum(report.phases.values())
    assert report.rpo_seconds is not None
    assert 0 <= report.rpo_seconds < 60
    assert report.restored_bytes == backup.raw_bytes
    assert report.stored_bytes == backup.stored_bytes
    assert dict(report.counts) == {
        "db0 kept:*": 300,
        "db0 live:*": 40,
        "db0 session:*": 40,
        "db0 (other)": 4,
        "db3 (other)": 1,
    }
    assert "a-token" not in repr(report) + "".join(told)
    proofs = {proof.name: proof for proof in report.proofs}
    assert proofs["every key can be read by its name"].found == f"{KEYS} in 5 patterns"
    # a backup that is younger than the keys' last touch: nothing could be compared, and that is said
    assert not proofs["sampled values are those of the source"].ok
    assert proofs["sampled values are those of the source"].warns
    assert left_in(here) == []

    (attested,) = series(here).drills
    assert (attested.number, attested.previous, attested.report) == (1, None, report)
    ((drill, store, way, ok, rpo, rto, size, phases, problems, by),) = rows(here)
    assert (drill, store, way, ok, by) == (report.id, "redis", "server", True, "a-run")
    assert (rpo, rto, size) == (report.rpo_seconds, report.rto_seconds, report.restored_bytes)
    assert (phases, problems) == (dict(report.phases), [])
    with Opened.of(here, new=False) as opened:
        (listed,) = catalogue.read(opened.repository, opened.ring, "redis").backups
        assert listed.state == "drilled"
        (mark,) = [mark for mark in listed.marks if mark.name == "drilled"]
        assert mark.details["drill"] == report.id


def test_values_of_keys_that_nobody_touched(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first drill finds them equal; a source in which most of them are others fails the second one."""
    monkeypatch.setattr(redis_source, "_TOUCH_RESOLUTION_SECONDS", -3600)  # else the test waits for minutes
    take(here)
    (report,) = run(here, "redis")
    proofs = {proof.name: proof for proof in report.proofs}
    for what in ("values", "times of expiry"):
        proof = proofs[f"sampled {what} are those of the source"]
        assert proof.ok, proof.found
        assert proof.found == "201 of 201 equal, of 201 sampled"
    with closing(redis.connect(here.redis)) as client:
        for number in range(300):
            client.set(f"kept:{number}", "another", ex=60)
    (report,) = run(here, "redis")
    assert not report.ok
    assert report.failed_phase == "proof"
    told = {problem.what: problem for problem in report.problems}
    assert set(told) == {
        "not proven: sampled values are those of the source",
        "not proven: sampled times of expiry are those of the source",
    }
    assert all(problem.next == "bilten drill run redis --way server" for problem in report.problems)
    assert [each.report.ok for each in series(here).drills] == [True, False]


def test_the_series_goes_on_after_the_first_bucket_was_lost(here: Settings) -> None:
    take(here)
    run(here, "redis")
    run(here, "redis")
    copy(here)
    name = f"{here.object_store.bucket_backups}-anew"
    with closing(object_store.connect(here.object_store)) as client:
        client.create_bucket(Bucket=name)
    elsewhere = here.object_store.model_copy(update={"bucket_backups": name})
    anew = here.model_copy(update={"object_store": elsewhere})
    take(anew)
    run(anew, "redis")
    assert [each.number for each in series(anew).drills] == [1, 2, 3]
    copy(anew)
    for bucket in BUCKETS:
        found = listing.listed(anew, "redis", whole=True, bucket=bucket)
        assert [each.number for each in found.drills] == [1, 2, 3]
        # the backups of before are in the second bucket alone
        assert found.problems == ()


def test_a_damaged_backup_fails_and_is_recorded(here: Settings) -> None:
    backup = take(here).manifest
    name = backup.objects[0].name
    with Opened.of(here, new=False) as opened:
        body = opened.repository.read_small(name)
        opened.repository.remove(name)
        opened.repository.write(name, [body[:-1] + bytes([body[-1] ^ 1])])
    (report,) = run(here, "redis")
    assert not report.ok
    assert report.failed_phase == "restore"
    assert name in report.problems[0].what
    assert report.rto_seconds is None
    assert left_in(here) == []
    ((*_, problems, _run),) = rows(here)
    assert problems == [problem.as_dict() for problem in report.problems]
    assert [each.report for each in series(here).drills] == [report]
    with Opened.of(here, new=False) as opened:
        assert [each.state for each in catalogue.read(opened.repository, opened.ring).backups] == ["complete"]


def test_without_a_backup_it_fails_and_says_what_to_do(here: Settings) -> None:
    from bilten_orchestration.backups.repository import keys
    from bilten_orchestration.backups.repository.opened import key_file

    keys.ensure(key_file(here))
    (report,) = run(here, "redis")
    assert (report.ok, report.failed_phase, report.rpo_seconds) == (False, "find", None)
    assert report.problems[0].next == "bilten backup create redis"


def test_a_fall_is_told_and_passes(here: Settings) -> None:
    take(here)
    run(here, "redis")
    with closing(redis.connect(here.redis)) as client:
        for number in range(300):
            client.delete(f"kept:{number}")
    take(here)
    (report,) = run(here, "redis")
    assert report.ok, report.problems
    (fall,) = [proof for proof in report.proofs if proof.name == "no fall of keys"]
    assert not fall.ok
    assert "db0 kept:*: 300 keys, now 0" in fall.found


def test_killed_with_a_server_and_the_next_one_says_so(here: Settings) -> None:
    take(here)
    run(here, "redis")
    assert killed_before_line(lambda: run(here, "redis"), [of_redis], 60)
    assert len(left_in(here)) >= 1
    assert [row[3] for row in rows(here)] == [True, None]
    told: list[str] = []
    (report,) = run(here, "redis", progress=told.append)
    assert report.ok
    assert any("that was killed left" in text for text in told)
    assert any("did not come to its end" in text for text in told)
    assert left_in(here) == []
    found = series(here)
    assert found.problems == ()
    assert [each.report.ok for each in found.drills] == [True, False, True]
    killed = found.drills[1].report
    assert killed.failed_phase == "killed"
    assert [(row[0], row[3]) for row in rows(here)] == [
        (each.report.id, each.report.ok) for each in found.drills
    ]


def test_while_postgres_is_down_and_after(here: Settings) -> None:
    take(here)
    away = here.model_copy(update={"postgres": here.postgres.model_copy(update={"port": 1})})
    told: list[str] = []
    (first,) = run(away, "redis", progress=told.append)
    assert first.ok
    assert rows(here) == []
    assert any("waits for the next drill" in text for text in told)
    (second,) = run(here, "redis")
    assert [(row[0], row[3]) for row in rows(here)] == [(first.id, True), (second.id, True)]


def test_what_is_refused_before_anything_is_touched(here: Settings) -> None:
    from bilten_orchestration.file_lock import exclusive
    from bilten_orchestration.progress import silent

    take(here)
    with pytest.raises(UsageError, match="no drill of 'bucket'"):
        run(here, "bucket")
    with pytest.raises(UsageError, match="no way 'table' back"):
        run(here, "redis", way="table")
    with pytest.raises(Refused, match="cannot be drilled"):
        run(here, "redis", day=datetime.now(UTC).date() - timedelta(days=2))
    with (
        exclusive(here.home / "drill-redis.lock", "drill run redis", silent),
        pytest.raises(LockHeld),
    ):
        run(here, "redis")
    assert rows(here) == []
    assert series(here).drills == ()


def test_a_disk_that_would_not_hold_it(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    taken = take(here).manifest
    free = shutil.disk_usage(here.home)._replace(free=taken.raw_bytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    (report,) = run(here, "redis")
    assert (report.ok, report.failed_phase) == (False, "room")
    assert "too little room" in report.problems[0].what


def test_the_restored_server_dies_while_it_is_asked(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was asked last: it is the restored one that is named, and no defect of ours."""
    from bilten_orchestration.backups.redis import scratch

    take(here)
    compared = redis_source.against_source

    def killed_first(*arguments: Any) -> Any:
        for process in left_in(here):
            if isinstance(process, psutil.Process):
                process.kill()
                process.wait(30)
        return compared(*arguments)

    monkeypatch.setattr(of_redis, "against_source", killed_first)
    (report,) = run(here, "redis")
    assert (report.ok, report.failed_phase) == (False, "proof")
    (problem,) = report.problems
    assert problem.what == "the restored server ended while it was asked"
    assert "its last words: " in str(problem.found)
    assert "bilten restore redis" in str(problem.next)
    assert left_in(here) == []
    assert scratch.end(here.home / "drill-redis" / "data") == []


def test_the_source_is_away(here: Settings) -> None:
    """What came back is proven by itself, and it is said that nothing was compared."""
    take(here)
    away = here.model_copy(update={"redis": here.redis.model_copy(update={"port": 1})})
    (report,) = run(away, "redis")
    assert report.ok, report.problems
    (warned,) = report.warnings
    assert warned.name == "sampled values are those of the source"
    assert "Redis" in warned.found


def test_two_writers_of_one_chain(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is down, and another machine attests between our look at the chain and our document."""
    take(here)
    (first,) = run(here, "redis")
    made = attestation.document
    ours, theirs, third = (replace(first, id=str(uuid4())) for _ in range(3))
    with Opened.of(here, new=False) as opened:
        repository, ring = opened.repository, opened.ring

        def behind_another(number: int, previous: str | None, report: DrillReport, ring: KeyRing) -> bytes:
            monkeypatch.setattr(attestation, "document", made)
            attestation.append(repository, ring, theirs)
            return made(number, previous, report, ring)

        monkeypatch.setattr(attestation, "document", behind_another)
        paused: list[float] = []
        attested = attestation.append(repository, ring, ours, sleep=paused.append)
        assert len(paused) == 1
        assert attested.number == 3
        found = attestation.read(repository, ring, "redis")
        assert found.problems == ()
        assert [each.report.id for each in found.drills] == [first.id, theirs.id, ours.id]
        assert attested.previous == found.drills[1].sha256

        # one who is always there before us: no document of ours, and no fork
        def always(number: int, previous: str | None, report: DrillReport, ring: KeyRing) -> bytes:
            if report.id == third.id:
                monkeypatch.setattr(attestation, "document", made)
                attestation.append(repository, ring, replace(first, id=str(uuid4())))
                monkeypatch.setattr(attestation, "document", always)
            return made(number, previous, report, ring)

        monkeypatch.setattr(attestation, "document", always)
        with pytest.raises(Mismatch, match="somebody else attests drills of redis"):
            attestation.append(repository, ring, third, sleep=paused.append)
        found = attestation.read(repository, ring, "redis")
        assert found.problems == ()
        assert third.id not in {each.report.id for each in found.drills}
