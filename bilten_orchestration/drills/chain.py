"""What a drill restores, and whether there is room for it."""

from __future__ import annotations

import shutil
from pathlib import Path

from bilten_orchestration.backups.repository.catalogue import Catalogue
from bilten_orchestration.backups.repository.manifest import Manifest, Store
from bilten_orchestration.drills.plan import Drilled
from bilten_orchestration.errors import Mismatch, Refused


def newest_chain(found: Catalogue, store: Store) -> tuple[Manifest, ...]:
    """The newest backup of a store that restores by itself alone (no dump), after what it builds on.

    Raises Mismatch where there is none.
    """
    listed = {backup.manifest.id: backup for backup in found.backups}
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
    parent = listed.get(newest.parent)
    if parent is None or parent.state == "expired":
        raise Mismatch(
            f"{newest.id} builds on a backup that is {'gone' if parent is None else 'expired'}",
            expected=newest.parent,
            found="it is not listed" if parent is None else "marked as expired: its objects may be gone",
            next=f"bilten backup create {store} --kind full",
        )
    return (parent.manifest, newest)


def needed_bytes(found: Catalogue, store: Store, *, newest: bool) -> int:
    """At least what comes back: of the newest chain, or (not `newest`) of the largest backup that there is.

    Raises Mismatch where there is none, or the newest cannot be restored.
    """
    if newest:
        return sum(manifest.raw_bytes for manifest in newest_chain(found, store))
    return max(
        (backup.manifest.raw_bytes for backup in found.backups if backup.state != "expired"), default=0
    )


def refuse_without_room(needed: int, store: Drilled, place: Path) -> None:
    """A restore says more exactly what it needs besides."""
    if (free := shutil.disk_usage(place).free) < needed:
        raise Refused(
            f"{place} has too little room for a drill of {store}",
            expected=f"{needed >> 20:,} MiB",
            found=f"{free >> 20:,} MiB",
            next="make room in the state directory, or move it to another disk (BILTEN_HOME)",
        )
