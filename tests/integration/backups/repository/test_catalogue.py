"""Which backups there are, as the bucket alone tells it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.manifest import Manifest, Mark, new_id
from bilten_orchestration.errors import Mismatch, StoreUnavailable
from bilten_orchestration.settings import ObjectStoreSettings
from bilten_orchestration.stores.object_store import connect

STARTED = datetime(2026, 11, 21, 2, tzinfo=UTC)


def _manifest(ring: keys.KeyRing, started_at: datetime = STARTED, store: str = "postgres") -> Manifest:
    return Manifest(
        id=new_id(store, "full", started_at),  # type: ignore[arg-type]
        store=store,  # type: ignore[arg-type]
        kind="full",
        source="1",
        started_at=started_at,
        finished_at=started_at + timedelta(minutes=1),
        raw_bytes=1,
        codec="zstd",
        objects=(),
        key_id=ring.current,
        versions={},
    )


def test_by_start_and_by_store(repository: Repository, ring: keys.KeyRing) -> None:
    later, earlier = _manifest(ring), _manifest(ring, STARTED - timedelta(days=1))
    redis = _manifest(ring, store="redis")
    for each in (later, earlier, redis):
        catalogue.add(repository, ring, each)
    repository.write("objects/postgres/without-manifest/0", [b"a backup that was killed"])
    found = catalogue.read(repository, ring)
    assert found.problems == ()
    assert [backup.manifest for backup in catalogue.read(repository, ring, "postgres").backups] == [
        earlier,
        later,
    ]
    assert len(found.backups) == 3
    assert found.find(redis.id).manifest == redis
    with pytest.raises(Mismatch, match="there is no backup x") as told:
        found.find("x")
    assert later.id in told.value.problems[0].expected


def test_marks_move_the_state_and_are_said_once(repository: Repository, ring: keys.KeyRing) -> None:
    manifest = _manifest(ring)
    catalogue.add(repository, ring, manifest)
    catalogue.add(repository, ring, manifest)
    states = [catalogue.read(repository, ring).backups[0].state]
    for hours, name in enumerate(("verified", "drilled", "verified", "expired")):
        found = Mark(manifest.id, name, STARTED + timedelta(hours=hours), "run 1")  # type: ignore[arg-type]
        for _ in range(2):
            catalogue.mark(repository, ring, manifest, found)
        states.append(catalogue.read(repository, ring).backups[0].state)
    assert states == ["complete", "verified", "drilled", "drilled", "expired"]
    assert len(catalogue.read(repository, ring).backups[0].marks) == 4


def test_what_was_altered_is_told_and_not_listed(
    repository: Repository, ring: keys.KeyRing, buckets: ObjectStoreSettings
) -> None:
    good, altered, moved = (_manifest(ring, STARTED + timedelta(hours=n)) for n in range(3))
    for each in (good, altered, moved):
        catalogue.add(repository, ring, each)
    client = connect(buckets)

    def overwrite(backup: Manifest, body: bytes) -> None:
        client.put_object(
            Bucket=repository.bucket, Key=f"catalogue/postgres/{backup.id}/manifest.json", Body=body
        )

    def body_of(backup: Manifest) -> bytes:
        return repository.read_small(f"catalogue/postgres/{backup.id}/manifest.json")

    overwrite(altered, body_of(altered).replace(b'"raw_bytes": 1', b'"raw_bytes": 2'))
    overwrite(moved, body_of(good))
    client.close()
    found = catalogue.read(repository, ring)
    assert [backup.manifest for backup in found.backups] == [good]
    assert [problem.what for problem in found.problems] == [
        f"catalogue/postgres/{altered.id}/manifest.json is damaged or was altered",
        f"catalogue/postgres/{moved.id} holds a document of another backup",
    ]


def test_a_backup_under_a_lost_key_is_told(
    repository: Repository, ring: keys.KeyRing, tmp_path: Path
) -> None:
    other = keys.ensure(tmp_path / "other.json")
    catalogue.add(repository, ring, _manifest(ring))
    theirs = replace(_manifest(ring, STARTED + timedelta(hours=1)), key_id=other.current)
    catalogue.add(repository, other, theirs)
    found = catalogue.read(repository, ring)
    assert len(found.backups) == 1
    assert [problem.what for problem in found.problems] == [
        f"catalogue/postgres/{theirs.id}/manifest.json is under the key {other.current},"
        " which is not in the key file"
    ]


def test_hundreds_are_read_side_by_side_in_their_order(
    repository: Repository, ring: keys.KeyRing, buckets: ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = [_manifest(ring, STARTED + timedelta(hours=number)) for number in range(300)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: catalogue.add(repository, ring, each), reversed(manifests)))
    client = connect(buckets)
    altered = {manifests[number].id for number in (7, 150, 299)}
    for backup in altered:
        name = f"catalogue/postgres/{backup}/manifest.json"
        client.put_object(Bucket=repository.bucket, Key=name, Body=b"{}")
    client.close()
    at_once, most, lock = 0, 0, threading.Lock()
    read_small = Repository.read_small

    def counted(self: Repository, name: str) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            return read_small(self, name)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(Repository, "read_small", counted)
    found = catalogue.read(repository, ring)
    assert [backup.manifest for backup in found.backups] == [
        each for each in manifests if each.id not in altered
    ]
    assert [problem.what.split("/")[2] for problem in found.problems] == sorted(altered)
    assert 1 < most <= 8


def test_a_store_that_goes_away_is_no_shorter_list(
    repository: Repository, ring: keys.KeyRing, buckets: ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        catalogue.add(repository, ring, _manifest(ring, STARTED + timedelta(hours=number)))
    nowhere = buckets.model_copy(update={"endpoint_url": "http://127.0.0.1:1"})
    client = connect(nowhere)
    away, left, read_small = Repository(client, repository.bucket), [10], Repository.read_small

    def then_away(self: Repository, name: str) -> bytes:
        left[0] -= 1
        return read_small(self if left[0] > 0 else away, name)

    monkeypatch.setattr(Repository, "read_small", then_away)
    with pytest.raises(StoreUnavailable):
        catalogue.read(repository, ring)
    client.close()
