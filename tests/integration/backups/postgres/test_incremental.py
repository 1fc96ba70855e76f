"""Incremental backups of a real server, restored together with their parent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.restore import restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.stores import object_store, postgres
from tests import stack
from tests.integration.backups.shop import DIGEST, Shop
from tests.small_disk import grown, mounted, needs_root


def _change(shop: Shop) -> None:
    with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
        connection.execute("update kept set words = reverse(words) where id between 1000 and 2000")
        connection.execute("create table new as select n from generate_series(1, 100) n")


def test_what_changed_on_top_of_the_newest_full_one(
    shop: Shop,
    started: Callable[[Path], stack.PostgresServer],
) -> None:
    before = shop.digest()
    take(shop.settings)
    full = take(shop.settings).manifest
    _change(shop)
    taken = take(shop.settings, "incremental").manifest
    again = take(shop.settings, "incremental").manifest
    assert (taken.kind, taken.parent) == ("incremental", full.id)
    assert again.parent == full.id, "always on the full one: a restore combines two"
    assert taken.stored_bytes < full.stored_bytes / 3
    assert taken.details == {}

    server = started(shop.restored(taken.id))
    with postgres.connect(server.superuser, database="bilten") as connection:
        assert connection.execute(DIGEST).fetchone() == shop.digest() != before
        assert connection.execute("select count(*) from new").fetchone() == (100,)
    assert sorted(path.name for path in shop.base.iterdir() if path.name.startswith("restored")) == [
        "restored"
    ]


def test_without_a_full_one_a_full_one_is_taken_and_why_is_told(shop: Shop) -> None:
    told: list[str] = []
    manifest = take(shop.settings, "incremental", progress=told.append).manifest
    assert (manifest.kind, manifest.parent) == ("full", None)
    assert manifest.details == {"instead_of_incremental": "the repository has no full backup of this server"}
    assert any(text.startswith("a full backup instead of an incremental: ") for text in told)


def test_after_a_promotion_a_full_one_is_taken(shop: Shop) -> None:
    first = take(shop.settings).manifest
    shop.server.stop()
    (shop.server.cluster.data / "standby.signal").touch()
    if shop.server.user is not None:
        (shop.server.cluster.data / "standby.signal").chmod(0o666)
    shop.server.start()
    with embedded.superuser(shop.server.cluster) as connection:
        assert connection.execute("select pg_promote()").fetchone() == (True,)
    manifest = take(shop.settings, "incremental").manifest
    assert manifest.kind == "full"
    assert manifest.wal is not None
    assert manifest.wal.timeline == 2
    assert f"{first.id} is of timeline 1" in manifest.details["instead_of_incremental"]
    _change(shop)
    assert take(shop.settings, "incremental").manifest.parent == manifest.id


@needs_root
def test_the_room_that_combining_takes_is_asked_for_beforehand(shop: Shop, tmp_path: Path) -> None:
    """A page here and there changes: the table is written anew, and whole, beside what was unpacked."""
    full = take(shop.settings).manifest
    with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
        connection.execute("update kept set words = reverse(words) where id % 1000 = 0")
    taken = take(shop.settings, "incremental").manifest
    unpacked = full.raw_bytes + taken.raw_bytes
    small = tmp_path / "small"
    with mounted(small, int(unpacked * 1.05) + (4 << 20)):
        with pytest.raises(Refused, match="too little room") as told:
            restore(shop.settings, Target("backup", taken.id), small / "restored")
        assert list(small.iterdir()) == []
        expected = int(told.value.problems[0].expected.removesuffix(" MiB").replace(",", "")) << 20
        # the table is 18 MiB and a bit; all of it changed
        assert unpacked * 1.05 + (15 << 20) < expected < (unpacked + full.raw_bytes) * 1.05
        alone = restore(shop.settings, Target("backup", full.id), small / "restored")
        assert alone.backup_id == full.id, "a full one is not combined"
        # and as much as it asked for is enough
        shutil.rmtree(small / "restored")
        grown(small, expected + (2 << 20))
        assert restore(shop.settings, Target("backup", taken.id), small / "restored").chain == (
            full.id,
            taken.id,
        )


@pytest.mark.parametrize("lost", ["manifest of the parent", "object of the parent"])
def test_a_chain_that_broke(shop: Shop, lost: str) -> None:
    full = take(shop.settings).manifest
    taken = take(shop.settings, "incremental").manifest
    client = object_store.connect(shop.settings.object_store)
    name = {
        "manifest of the parent": f"catalogue/postgres/{full.id}/manifest.json",
        "object of the parent": full.objects[0].name,
    }[lost]
    client.delete_object(Bucket=shop.settings.object_store.bucket_backups, Key=name)
    client.close()
    with pytest.raises(Mismatch, match=full.id):
        restore(shop.settings, Target("backup", taken.id), shop.base / "restored")
    assert not (shop.base / "restored").exists()


def test_a_damaged_manifest_of_the_parent_makes_a_full_one(shop: Shop) -> None:
    full = take(shop.settings).manifest
    client = object_store.connect(shop.settings.object_store)
    client.delete_object(
        Bucket=shop.settings.object_store.bucket_backups, Key=full.others["backup_manifest"].name
    )
    client.close()
    manifest = take(shop.settings, "incremental").manifest
    assert manifest.kind == "full"
    assert "backup_manifest is not there" in manifest.details["instead_of_incremental"]
    with Opened.of(shop.settings) as opened:
        assert len(catalogue.read(opened.repository, opened.ring).backups) == 2
