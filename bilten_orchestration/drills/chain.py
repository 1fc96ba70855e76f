"""What a drill restores, and whether there is room for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from bilten_orchestration.backups.repository.catalogue import Catalogue
from bilten_orchestration.backups.repository.manifest import Manifest, Store
from bilten_orchestration.errors import Mismatch, Refused


def newest_chain(found: Catalogue, store: Store) -> tuple[Manifest, ...]:
    """The newest backup of a store that restores by itself alone (no dump), after what it builds on.

    Raises Mismatch where there is none.
    """
    listed = {backup.manifest.id: backup.manifest for backup in found.backups}
    whole = [
        backup.manifest
        for backup in found.backups
        if backup.manifest.store == store and backup.state != "expired" and backup.manifest.kind != "logical"
    ]
    if not whole:
        raise Mismatch(
            f"there is no backup of {store} to restore",
            expected="one in the repository",
            found=f"none, and {len(found.problems)} documents that cannot be believed",
            next=f"bilten backup create {store}",
        )
    newest = whole[-1]
    if newest.parent is None:
        return (newest,)
    if newest.parent not in listed:
        raise Mismatch(
            f"{newest.id} builds on a backup that is gone",
            expected=newest.parent,
            found="it is not listed",
            next=f"bilten backup create {store} --kind full",
        )
    return (listed[newest.parent], newest)


def refuse_without_room(found: Catalogue, store: Store, place: Path) -> None:
    """At least what comes back; a restore says more exactly what it needs besides."""
    needed = sum(manifest.raw_bytes for manifest in newest_chain(found, store))
    if (free := shutil.disk_usage(place).free) < needed:
        raise Refused(
            f"{place} has too little room for a drill of {store}",
            expected=f"{needed >> 20:,} MiB",
            found=f"{free >> 20:,} MiB",
            next="make room in the state directory, or move it to another disk (BILTEN_HOME)",
        )
