"""A manifest says what was signed, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.repository import keys, manifest
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest, Mark, WalRange
from bilten_orchestration.backups.repository.tar_slices import Continues
from bilten_orchestration.errors import Mismatch

STARTED = datetime(2026, 11, 21, 2, 0, 0, 123456, tzinfo=UTC)
VALID = Manifest(
    id="20261121T020000Z-postgres-incremental-abcdef",
    store="postgres",
    kind="incremental",
    source="7563411223344556677",
    started_at=STARTED,
    finished_at=STARTED + timedelta(minutes=3),
    raw_bytes=5_000_000_000,
    codec="zstd",
    objects=(
        BackupObject("objects/a/0", 1 << 30, "ab" * 32, 3 << 30),
        BackupObject("objects/a/1", 17, "cd" * 32, 40, Continues("base/5/1259", 512, 8_192)),
    ),
    others={"backup_manifest": BackupObject("objects/a/backup_manifest", 5, "ef" * 32, 9)},
    key_id="20261101-00000000",
    versions={"postgres": "18.1", "bilten": "0.1.0"},
    parent="20261120T020000Z-postgres-full-123456",
    wal=WalRange(3, "0/5000028", "1/50001F8"),
    run="0f6b1a1e",
    details={"checkpoint": "fast"},
)


@pytest.fixture
def ring(tmp_path: Path) -> keys.KeyRing:
    return keys.ensure(tmp_path / "keys.json")


def _signed(ring: keys.KeyRing) -> bytes:
    return manifest.sign(replace(VALID, key_id=ring.current), ring, ring.current)


def test_comes_back_as_it_was(ring: keys.KeyRing) -> None:
    wanted = replace(VALID, key_id=ring.current)
    assert manifest.read_manifest(_signed(ring), "here", ring) == wanted
    assert wanted.stored_bytes == (1 << 30) + 17 + 5
    bare = replace(wanted, parent=None, wal=None, run=None, details={}, kind="full")
    assert manifest.read_manifest(manifest.sign(bare, ring, ring.current), "here", ring) == bare
    mark = Mark(VALID.id, "drilled", STARTED, "run 1", {"rpo_seconds": "41"})
    assert manifest.read_mark(manifest.sign(mark, ring, ring.current), "here", ring) == mark


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def test_no_field_can_be_altered(ring: keys.KeyRing) -> None:
    body = _signed(ring)
    places = list(_leaves(json.loads(body)))
    assert len(places) > 20
    for place in places:
        document = json.loads(body)
        at = document
        for step in place[:-1]:
            at = at[step]
        was = at[place[-1]]
        at[place[-1]] = was + 1 if isinstance(was, int) else f"{was}0"
        with pytest.raises(Mismatch):
            manifest.read_manifest(json.dumps(document).encode(), "here", ring)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"manifest": 1}', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(ring: keys.KeyRing, body: bytes) -> None:
    with pytest.raises(Mismatch, match="catalogue/x is damaged or was altered"):
        manifest.read_manifest(body, "catalogue/x", ring)


def test_half_a_manifest_is_refused(ring: keys.KeyRing) -> None:
    body = _signed(ring)
    for end in range(0, len(body) - 1, 7):
        with pytest.raises(Mismatch):
            manifest.read_manifest(body[:end], "here", ring)


def test_a_mark_is_no_manifest(ring: keys.KeyRing) -> None:
    mark = manifest.sign(Mark(VALID.id, "verified", STARTED, "x"), ring, ring.current)
    with pytest.raises(Mismatch):
        manifest.read_manifest(mark, "here", ring)


def test_under_another_key_and_under_a_lost_one(ring: keys.KeyRing, tmp_path: Path) -> None:
    other = keys.ensure(tmp_path / "other.json")
    with pytest.raises(Mismatch, match=f"here is under the key {ring.current}, which is not in the key file"):
        manifest.read_manifest(_signed(ring), "here", other)
    forger = keys.KeyRing(ring.current, {ring.current: other.key(other.current)})
    with pytest.raises(Mismatch, match="damaged or was altered"):
        manifest.read_manifest(_signed(forger), "here", ring)


def test_a_later_format_asks_for_the_later_program(ring: keys.KeyRing) -> None:
    document = json.loads(_signed(ring)) | {"format": 2}
    with pytest.raises(Mismatch, match="another format") as told:
        manifest.read_manifest(json.dumps(document).encode(), "here", ring)
    assert told.value.problems[0].found == "format 2"


def test_ids_sort_by_start_and_differ_within_a_second() -> None:
    later = manifest.new_id("postgres", "full", STARTED + timedelta(seconds=1))
    ids = {manifest.new_id("postgres", "full", STARTED) for _ in range(50)}
    assert len(ids) == 50
    assert max(ids) < later
