"""Disks that are full indeed: the store's, and the place of a restore, each on a small file system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.postgres import restore as restoring
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import Refused, StoreUnavailable
from bilten_orchestration.stores import postgres
from tests import stack
from tests.integration.backups.shop import Shop
from tests.small_disk import mounted, needs_root

pytestmark = [pytest.mark.faults, needs_root]
MEBIBYTES = 60


@pytest.fixture
def small(shop: Shop) -> Iterator[Path]:
    """The shop's repository lies in a store with room for one backup and a half."""
    with mounted(shop.base / "object-store", MEBIBYTES << 20) as place:
        server, buckets = stack.start_object_store(shop.base)
        shop.settings = shop.settings.model_copy(update={"object_store": buckets})
        try:
            yield place
        finally:
            server.kill()


def _room(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def test_a_backup_into_a_full_disk(shop: Shop, small: Path) -> None:
    """It ends, points to the disk, takes no room, and harms nothing; with room the next one is whole."""
    good = take(shop.settings, "full").manifest
    ballast = small / "ballast"
    ballast.write_bytes(bytes(_room(small) - good.stored_bytes // 2))
    with pytest.raises(StoreUnavailable, match="does not serve") as refused:
        take(shop.settings, "full")
    assert "the room on its disk" in refused.value.problems[0].next
    assert shop.listed() == [good.id]
    with postgres.connect(shop.settings.postgres) as connection:
        assert connection.execute("select count(*) from pg_stat_progress_basebackup").fetchone() == (0,)
    ballast.unlink()
    again = take(shop.settings, "full").manifest
    assert shop.listed() == [good.id, again.id]
    for each in (good, again):
        assert verify(shop.settings, each.id, by="a test", deep=True).problems == ()


def test_a_restore_whose_disk_fills_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else fills it behind the look at the room: it is told, and nothing of the restore stays."""
    taken = take(shop.settings).manifest
    with mounted(shop.base / "target", 4 * (taken.raw_bytes >> 20) << 20) as place:
        unpack = restoring._unpack_all

        def filled(*arguments: Any) -> int:
            (place / "another").write_bytes(bytes(_room(place) - taken.raw_bytes // 2))
            return unpack(*arguments)

        monkeypatch.setattr(restoring, "_unpack_all", filled)
        with pytest.raises(Refused, match="has no room any more"):
            restoring.restore(shop.settings, Target("backup", taken.id), place / "restored")
        assert [path.name for path in place.iterdir()] == ["another"]
        monkeypatch.undo()
        (place / "another").unlink()
        restoring.restore(shop.settings, Target("backup", taken.id), place / "restored")
        assert [path.name for path in place.iterdir()] == ["restored"]
