"""Drops a detached partition whose archive is proven, and none other.

    1  the archive's document is read and its signature checked, every byte of      nothing
       its objects is read in the bucket and has the SHA-256 that it names
    2  the repository's journal says what is going to be dropped                    an entry that the next run
                                                                                    settles: nothing was done
    3  BEGIN; the table is locked against writes (SHARE), and digested: it is what  nothing: rolled back
       was archived
    4  `snapshot` is taken exclusively, DROP, system.partition_metadata says        nothing, or both
       `dropped`, COMMIT
    5  the journal says that it was done                                            an entry that the next run
                                                                                    settles: done

The right-hand side is what a kill leaves. The lock of 3 lasts until the commit, so what was digested is what
is dropped; readers (dumps, drills) are let in until 4. A foreign key makes DROP lock the referenced table:
that attempt is repeated within the transaction, from a savepoint, while the digest still holds.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from psycopg import sql

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.partitions import archives, journal, metadata
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.locking import Patience, retried
from bilten_orchestration.partitions.postgres import digest
from bilten_orchestration.partitions.postgres.archive import Source, require_equal
from bilten_orchestration.progress import Progress
from bilten_orchestration.stores.postgres import Connection

Exclusive = Callable[[], AbstractContextManager[None]]


def archived(
    connection: Connection,
    opened: Opened,
    source: Source,
    document: str,
    patience: Patience,
    exclusive: Exclusive,
    by: str,
    run: str | None,
    progress: Progress,
) -> Archive:
    """`exclusive` takes the lock `snapshot`, on a connection of its own. This one is pinned, in autocommit.

    Raises Mismatch (no such archive, not whole, of other bounds; other rows in the table), TransientError,
    and what the object store does. Nothing was dropped then.
    """
    archive = archives.require_whole(opened, document, progress)
    if (archive.table, archive.from_at, archive.to_at) != (source.table.name, source.low, source.high):
        raise Mismatch(
            f"{document} is the archive of another partition",
            expected=f"{source.table.name} from {source.low} to {source.high}",
            found=f"{archive.table} from {archive.from_at} to {archive.to_at}",
            next="nothing was dropped; bilten partitions plan",
        )

    def same() -> None:
        progress(f"{source.name}: digesting once more, under the lock of the drop")
        found = digest.compute(connection, source.relation, archive.columns)
        require_equal(archive, found, "is archived")

    with journal.entry(
        opened,
        connection,
        "drop",
        table=source.table.name,
        partition=source.name,
        archive=document,
        rows=archive.rows,
        digest=archive.digest,
        by=by,
    ):
        _drop(connection, source, patience, exclusive, run, same, archive)
    return archive


def unarchived(
    connection: Connection,
    opened: Opened,
    source: Source,
    patience: Patience,
    exclusive: Exclusive,
    by: str,
    run: str | None,
) -> None:
    """Of a table whose declaration says at_end drop."""
    with journal.entry(
        opened, connection, "drop", table=source.table.name, partition=source.name, archive=None, by=by
    ):
        _drop(connection, source, patience, exclusive, run, lambda: None, None)


def _drop(
    connection: Connection,
    source: Source,
    patience: Patience,
    exclusive: Exclusive,
    run: str | None,
    same: Callable[[], None],
    archive: Archive | None,
) -> None:
    # given up after the commit: until then the table is there for who reads a snapshot
    with ExitStack() as held, connection.transaction():
        connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(patience.lock_timeout)))

        def locked() -> None:
            with connection.transaction():
                connection.execute(sql.SQL("lock table only {} in share mode").format(source.relation))

        retried(patience, f"{source.name} could not be locked against writes", locked)
        same()

        def dropped() -> None:
            with connection.transaction():
                connection.execute(sql.SQL("drop table {}").format(source.relation))

        held.enter_context(exclusive())
        metadata.changed(
            connection,
            source.table.name,
            source.name,
            "dropped",
            run,
            rows=archive.rows if archive else None,
            archive=archive.document if archive else None,
            digest=archive.digest if archive else None,
        )
        retried(patience, f"{source.name} could not be dropped", dropped)
