"""What a drill restores: a newest backup that cannot come back is no reason to take another one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bilten_orchestration.backups.repository.catalogue import Backup, Catalogue
from bilten_orchestration.backups.repository.manifest import Kind, Manifest, Mark
from bilten_orchestration.drills import chain
from bilten_orchestration.errors import Mismatch, Refused

AT = datetime(2026, 11, 20, 2, tzinfo=UTC)
FULL, NEXT, LATER = "20261120T020000Z-postgres-full-aaaaaa", "one", "two"


def _backup(number: int, id: str, kind: Kind, parent: str | None = None, *, expired: bool = False) -> Backup:
    at = AT + timedelta(hours=number)
    manifest = Manifest(
        id, "postgres", kind, "7", at, at, 100 << number, "none", (), "key", {}, parent=parent
    )
    marks = (Mark(id, "expired", at, "retention"),) if expired else ()
    return Backup(manifest, marks)


def _ids(*backups: Backup) -> list[str]:
    return [each.id for each in chain.newest_chain(Catalogue(backups, ()), "postgres")]


def test_the_newest_with_what_it_builds_on() -> None:
    full = _backup(0, FULL, "full")
    assert _ids(full) == [FULL]
    assert _ids(full, _backup(1, NEXT, "incremental", FULL), _backup(2, "dump", "logical")) == [FULL, NEXT]
    assert _ids(full, _backup(1, NEXT, "incremental", FULL, expired=True)) == [FULL]


@pytest.mark.parametrize(
    ("parents", "said"),
    [
        ([], "builds on a backup that is gone"),
        ([_backup(0, FULL, "full", expired=True)], "builds on a backup that is expired"),
    ],
)
def test_what_it_builds_on_is_gone_or_expired(parents: list[Backup], said: str) -> None:
    newest = _backup(2, LATER, "incremental", FULL)
    other = _backup(1, NEXT, "full")
    with pytest.raises(Mismatch, match=said) as told:
        _ids(*parents, other, newest)
    (problem,) = told.value.problems
    assert problem.expected == FULL
    assert "--kind full" in (problem.next or "")
    # ways that do not start from it can be walked
    found = Catalogue((*parents, other, newest), ())
    assert chain.needed_bytes(found, "postgres", newest=False) == 100 << 2


def test_no_backup_and_no_room(tmp_path: Path) -> None:
    with pytest.raises(Mismatch, match="no backup of postgres"):
        chain.needed_bytes(Catalogue((), ()), "postgres", newest=True)
    chain.refuse_without_room(0, "postgres", tmp_path)
    with pytest.raises(Refused, match="too little room"):
        chain.refuse_without_room(1 << 60, "postgres", tmp_path)
