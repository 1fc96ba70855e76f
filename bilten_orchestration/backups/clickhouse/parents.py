"""What an incremental backup is taken on: always the newest full one, so that a restore reads two.

Where that cannot be, the reason is told, and a full backup is taken in its place:

    1. there is no full backup of this server that is not expired
    2. it is of a newer version than the server: what an older one makes of it is unknown
    3. its objects are not all there with their sizes (base.py looks)
"""

from __future__ import annotations

from collections.abc import Iterable

from bilten_orchestration.backups.clickhouse.server import Server, release
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest


def choose(backups: Iterable[Backup], server: Server) -> Manifest | str:
    """The parent, or the reason why there is none. `backups` in the order of their start."""
    full = [
        backup.manifest
        for backup in backups
        if backup.manifest.store == "clickhouse"
        and backup.manifest.kind == "full"
        and backup.manifest.source == server.source
        and backup.state != "expired"
    ]
    if not full:
        return "the repository has no full backup of this server"
    parent = full[-1]
    if release(parent.versions["clickhouse"]) > release(server.version):
        newer = parent.versions["clickhouse"]
        return f"{parent.id} is of ClickHouse {newer}, and the server of {server.version}"
    return parent
