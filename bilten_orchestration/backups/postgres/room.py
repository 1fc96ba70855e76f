"""How much room pg_combinebackup takes beside what it reads.

A file of which an incremental holds some blocks is written anew and whole; all others are linked. So a
restore of an incremental needs, for a while, such files twice: a few changed pages in each of many large
tables are nearly a second full backup. Which files these are stands in PostgreSQL's own manifests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch

_MANIFEST: Final = "backup_manifest"
_INCREMENTAL: Final = "INCREMENTAL."


def rebuilt_bytes(opened: Opened, chain: Sequence[Manifest]) -> int:
    """Of the files that are written anew, at most; 0 of a full backup alone.

    Where a manifest cannot be read that is the size of all that they may be of: a restore does not need these
    copies of them, and is not refused for that.
    """
    if len(chain) == 1:
        return 0
    parent, child = chain[0], chain[-1]
    try:
        before, changed = (_sizes(opened, each) for each in (parent, child))
    except (Mismatch, ValueError, KeyError, TypeError):
        return parent.raw_bytes
    return sum(
        # blocks that came to its end are in the incremental
        before.get(f"{directory}{separator}{name.removeprefix(_INCREMENTAL)}", 0) + size
        for path, size in changed.items()
        for directory, separator, name in (path.rpartition("/"),)
        if name.startswith(_INCREMENTAL)
    )


def _sizes(opened: Opened, backup: Manifest) -> dict[str, int]:
    """By path (PostgreSQL manual, "Backup Manifest Format"; names that are no UTF-8 are no table's)."""
    read = json.loads(b"".join(opened.get(backup, backup.others[_MANIFEST])))
    return {str(file["Path"]): int(file["Size"]) for file in read["Files"] if "Path" in file}
