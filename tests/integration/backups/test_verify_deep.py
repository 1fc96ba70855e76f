"""`bilten backup verify --deep`: the backup is used, and nothing of that stays."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bilten_orchestration.backups.postgres import base, logical
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import LockHeld, Refused
from bilten_orchestration.stores import object_store
from tests.integration.backups.command import Environment, bilten
from tests.integration.backups.shop import Shop
from tests.processes import at_work_in

KILLED = """
import os, signal, sys
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.settings.loading import load_settings
def progress(text):
    if text == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
verify(load_settings(), sys.argv[1], by="a test", deep=True, progress=progress)
"""


def test_a_chain_is_restored_and_nothing_of_it_stays(shop: Shop, environment: Environment) -> None:
    base.take(shop.settings)
    backup = base.take(shop.settings, "incremental").manifest.id
    place = shop.settings.home / "verify"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, backup, "verifying"],
        env=environment(shop.settings) | {"PYTHONPATH": str(Path(__file__).parents[3])},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    assert any(place.iterdir())
    found = bilten(shop, environment, "backup", "verify", backup, "--deep")
    assert found.returncode == 0, found.stderr
    assert "which a `bilten backup verify --deep` that was killed left" in found.stderr
    assert "accepted by pg_verifybackup" in found.stdout
    assert not place.exists()
    (mark,) = _marks(shop, backup)
    assert mark["deep"].startswith("restored and accepted")

    # all that is damaged is told
    with Opened.of(shop.settings) as opened:
        manifest = catalogue.read(opened.repository, opened.ring).find(backup).manifest
    names = [each.name for each in manifest.objects[:2]]
    client = object_store.connect(shop.settings.object_store)
    for name in names:
        client.delete_object(Bucket=shop.settings.object_store.bucket_backups, Key=name)
    client.close()
    report = verify(shop.settings, backup, by="a test", deep=True)
    assert [name in problem.what for name, problem in zip(names, report.problems, strict=True)] == [
        True,
        True,
    ]
    assert report.deep == ""
    assert not place.exists()
    assert len(_marks(shop, backup)) == 1


def test_a_dump_is_restored_and_its_rows_are_counted(shop: Shop, environment: Environment) -> None:
    manifest = logical.take(shop.settings).manifest
    place, sockets = shop.settings.home / "verify", shop.base / "tmp"
    sockets.mkdir(mode=0o711)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, manifest.id, "counting rows"],
        env=environment(shop.settings)
        | {"PYTHONPATH": str(Path(__file__).parents[3]), "TMPDIR": str(sockets)},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    assert at_work_in(place), "it outlives whoever started it"
    assert list(sockets.glob("bilten-restore-*"))
    report = verify(shop.settings, manifest.id, by="a test", deep=True)
    assert report.problems == ()
    assert report.deep == f"restored into an empty server: {sum(manifest.counts.values())} rows in 2 tables"
    assert not place.exists()
    assert not at_work_in(place)
    assert not list(sockets.iterdir())

    # a manifest that says otherwise, over the same objects
    other = replace(manifest, counts={**manifest.counts, "bilten.public.kept": 7})
    client = object_store.connect(shop.settings.object_store)
    name = f"catalogue/postgres/{manifest.id}/manifest.json"
    client.delete_object(Bucket=shop.settings.object_store.bucket_backups, Key=name)
    client.close()
    with Opened.of(shop.settings) as opened:
        catalogue.add(opened.repository, opened.ring, other)
    (problem,) = verify(shop.settings, manifest.id, by="a test", deep=True).problems
    assert (problem.expected, problem.found) == ("7", "200,000")
    assert not place.exists()
    assert not at_work_in(place)


def test_too_little_room_and_two_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from bilten_orchestration.file_lock import exclusive

    backup = base.take(shop.settings).manifest
    with Opened.of(shop.settings) as opened:
        huge: Manifest = replace(backup, id=f"{backup.id}-huge", raw_bytes=1 << 60)
        catalogue.add(opened.repository, opened.ring, huge)
    with pytest.raises(Refused, match="too little room"):
        verify(shop.settings, huge.id, by="a test", deep=True)
    with (
        exclusive(shop.settings.home / "verify.lock", "another", lambda text: None),
        pytest.raises(LockHeld, match="another"),
    ):
        verify(shop.settings, backup.id, by="a test", deep=True)
    assert not (shop.settings.home / "verify").exists()


def _marks(shop: Shop, backup: str) -> list[dict[str, str]]:
    with Opened.of(shop.settings) as opened:
        found = catalogue.read(opened.repository, opened.ring).find(backup)
    return [dict(mark.details) for mark in found.marks if mark.name == "verified"]
