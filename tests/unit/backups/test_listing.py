"""How `bilten backup list` reads for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import BackupObject, Kind, Manifest, Store, new_id
from bilten_orchestration.cli.backup import _show

BEGAN = datetime.now(UTC) - timedelta(days=120)


def backup(hours: int, kind: Kind, parent: Backup | None = None, store: Store = "postgres") -> Backup:
    at = BEGAN + timedelta(hours=hours)
    return Backup(
        Manifest(
            id=new_id(store, kind, at),
            store=store,
            kind=kind,
            source="1",
            started_at=at,
            finished_at=at,
            raw_bytes=999 << 30,
            codec="zstd",
            objects=(BackupObject("objects/1", 333 << 30, "00", 1),),
            key_id="20261121-00000000",
            versions={},
            parent=parent.manifest.id if parent else None,
        )
    )


def test_chains_stand_together_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = backup(0, "full", store="clickhouse"), backup(2, "full")
    below = [backup(hours, "incremental", first, store="clickhouse") for hours in (1, 3)]
    orphan = backup(4, "incremental", backup(-9, "full"))
    by_start = (first, below[0], second, below[1], orphan)
    _show(by_start, frozenset(backup.manifest.id for backup in by_start))
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["ID", "STATE", "AGE", "STORED", "RATIO", "COPY"]
    assert [line[: line.index(" complete")].rstrip() for line in lines] == [
        first.manifest.id,
        f" {below[0].manifest.id}",
        f" {below[1].manifest.id}",
        second.manifest.id,
        orphan.manifest.id,
    ]
    assert all(line.endswith(" 3.0 yes") for line in lines)
    assert max(map(len, (heading, *lines))) <= 80
