"""Ends an archive whose own retention is over: `archive_retention` of its table, and nothing else.

    1  the repository's journal says which archive goes, and why    an entry that the next run settles
    2  its document goes, in the second bucket and the first        no archive any more in one of them; where
                                                                    the first lists it still: repeated
    3  its objects go, likewise                                     objects without a document: swept later
    4  system.partition_metadata names it no more                   it does until the next run settles 1

The right-hand side is what a kill leaves. When one goes says archive_retention.py.
"""

from __future__ import annotations

from bilten_orchestration.backups import lock
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.partitions import archives, journal, metadata
from bilten_orchestration.partitions.actions import Action
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection


def expire(
    settings: Settings,
    opened: Opened,
    connection: Connection,
    action: Action,
    by: str,
    progress: Progress,
) -> Archive:
    """Raises Mismatch where the document cannot be believed, and what the object stores do."""
    assert action.archive is not None  # noqa: S101
    archive = archives.read_one(opened.repository, opened.ring, action.archive)
    with (
        lock.held(settings, "copies", progress),  # no copy is under way, which would bring it back
        Opened.of(settings, new=False, bucket="copy", progress=progress) as copy,
        journal.entry(
            opened,
            connection,
            "expire",
            store=archive.store,
            table=archive.table,
            partition=archive.partition,
            archive=archive.document,
            reason=action.reason,
            by=by,
        ),
    ):
        # the copy first: what the first bucket lists is copied again
        for repository in (copy.repository, opened.repository):
            _remove(repository, archive)
        metadata.expired(connection, archive.document)
    return archive


def _remove(repository: Repository, archive: Archive) -> None:
    repository.remove(archive.document)
    for each in archive.objects:
        repository.remove(each.name)
