"""Archives one detached partition, and proves it.

    1  rows are counted and digested, and columns found that Arrow        nothing
       cannot hold
    2  they are streamed as Parquet files, encrypted, into the bucket     objects without a document: no
                                                                          archive; swept later, begun anew
    3  the files are read back from the bucket, decrypted, and loaded     the same; the table was temporary
       into a temporary table, whose digest is the partition's
    4  the document is written                                            an archive: the next run finds it in
                                                                          the bucket
    5  system.partition_metadata says `archived`                          the same

The right-hand side is what a kill at that step leaves. The partition itself is only read. Between 1 and 2
somebody may write into the detached table: then what is read back has another digest, and there is no
archive. Between 4 and the drop likewise: drop.py digests once more, under a lock that keeps writers out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import IO

from psycopg import sql

from bilten_orchestration.backups.repository.manifest import BackupObject
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.partitions import archives, metadata
from bilten_orchestration.partitions.archives import Archive, Column
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres import columns, digest, parquet
from bilten_orchestration.partitions.postgres.digest import Measured
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

_SCRATCH = sql.Identifier("pg_temp", "bilten_proof")
_TOLD_EVERY_SECONDS = 2
_FACTS = """
    select pg_total_relation_size(%s::text::regclass),
           (select system_identifier from pg_control_system())::text, current_setting('server_version')
"""


@dataclass(frozen=True, slots=True)
class Source:
    """The table to archive: its name as regclass writes it, and the bounds it had."""

    table: PartitionedTable
    name: str
    low: datetime | None
    high: datetime | None

    @property
    def relation(self) -> sql.SQL:
        return sql.SQL(self.name)


def make(
    connection: Connection,
    opened: Opened,
    settings: Settings,
    source: Source,
    run: str | None,
    progress: Progress,
) -> Archive:
    """The connection is pinned (drills' digests.pin), in autocommit.

    Raises Refused (rows outside the bounds), Mismatch (what was read back is not what was written; no
    archive is left), psycopg.Error, and what the object store does.
    """
    begun_at = datetime.now(UTC)
    found = columns.read(connection, source.name)
    _refuse_strays(connection, source)
    progress(f"{source.name}: counting and digesting")
    before = digest.measure(connection, source.relation, found)
    found = columns.with_text(found, before.as_text)
    row = connection.execute(_FACTS, (source.name,)).fetchone()
    assert row is not None  # noqa: S101
    size, system, server_version = row
    archive_id = archives.new_id(source.low, begun_at)
    stored = _store(connection, opened, settings, source, archive_id, found, progress)
    draft = Archive(
        id=archive_id,
        store="postgres",
        table=source.table.name,
        partition=source.name,
        from_at=source.low,
        to_at=source.high,
        columns=found,
        rows=before.rows,
        digest=before.digest,
        digest_method=digest.METHOD,
        raw_bytes=size,
        codec=opened.settings.codec,
        objects=tuple(stored),
        key_id=opened.ring.current,
        source=system,
        begun_at=begun_at,
        proven_at=begun_at,
        versions={"postgres": server_version, "pyarrow": version("pyarrow")},
        run=run,
    )
    proven = prove(connection, opened, settings, draft, source.relation, progress)
    archives.add(opened, proven)
    metadata.changed(
        connection,
        source.table.name,
        source.name,
        "archived",
        run,
        rows=proven.rows,
        bytes=proven.raw_bytes,
        archive=proven.document,
        digest=proven.digest,
    )
    return proven


def prove(
    connection: Connection,
    opened: Opened,
    settings: Settings,
    archive: Archive,
    like: sql.Composable,
    progress: Progress,
) -> Archive:
    """Read it back into a temporary table, and compare. Raises Mismatch."""
    connection.execute(sql.SQL("drop table if exists {}").format(_SCRATCH))
    connection.execute(
        sql.SQL("create temporary table bilten_proof (like {} including generated)").format(like)
    )
    try:
        load(connection, opened, settings, archive, _SCRATCH, loadable(archive.columns), progress)
        progress(f"{archive.partition}: digesting what was read back")
        back = digest.compute(connection, _SCRATCH, archive.columns)
    finally:
        if not connection.closed and not connection.broken:
            connection.execute(sql.SQL("drop table if exists {}").format(_SCRATCH))
    require_equal(archive, back, "was read back from the bucket")
    return replace(archive, proven_at=datetime.now(UTC))


def load(
    connection: Connection,
    opened: Opened,
    settings: Settings,
    archive: Archive,
    into: sql.Composable,
    wanted: tuple[Column, ...],
    progress: Progress,
) -> int:
    """Every file of an archive, one after another, by way of the state directory; how many rows.

    Raises Mismatch, psycopg.Error."""
    import pyarrow as pa

    rows = 0
    for number, each in enumerate(archive.objects, 1):
        progress(f"{archive.partition}: reading file {number} of {len(archive.objects)} from the bucket")
        with fetched(opened, settings, archive, each) as file:
            try:
                rows += parquet.load(connection, into, wanted, file)
            except pa.ArrowException as error:
                raise Mismatch(
                    f"{each.name} is no Parquet file of that archive",
                    expected=f"columns {', '.join(column.name for column in wanted)}",
                    found=str(error).splitlines()[0],
                    next="the second bucket may have it whole",
                ) from None
    return rows


def fetched(opened: Opened, settings: Settings, archive: Archive, wanted: BackupObject) -> IO[bytes]:
    """Decrypted, in a file without a name, which a kill leaves nothing of. Raises Mismatch."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=settings.home)  # noqa: SIM115 the caller closes it
    try:
        for chunk in archives.get(opened, archive, wanted):
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def loadable(found: tuple[Column, ...]) -> tuple[Column, ...]:
    """Those that a table takes which generates the others."""
    return tuple(each for each in found if not each.generated)


class Changed(Mismatch):
    """The rows are others than those that were archived."""


def require_equal(archive: Archive, found: Measured, what: str) -> None:
    """Raises Changed."""
    if found.digest != archive.digest:
        raise Changed(
            f"what {what} of {archive.partition} is not what the partition holds",
            expected=f"{archive.rows:,} rows, digest {archive.digest}",
            found=f"{found.rows:,} rows, digest {found.digest}",
            next="nothing was dropped: see who writes into a detached table; the next run archives it anew",
        )


def _refuse_strays(connection: Connection, source: Source) -> None:
    """A table that holds other rows than the partition could is not that partition, whatever its name."""
    column = sql.Identifier(source.table.column)
    row = connection.execute(
        sql.SQL(
            "select count(*) from only {relation}"
            " where {column} is null or {column} < coalesce(%s, '-infinity'::timestamptz)"
            " or {column} >= coalesce(%s, 'infinity'::timestamptz) and %s::timestamptz is not null"
        ).format(relation=source.relation, column=column),
        (source.low, source.high, source.high),
    ).fetchone()
    assert row is not None  # noqa: S101
    if row[0]:
        raise Refused(
            f"{source.name} holds rows that the partition of that name could not hold",
            expected=f"{source.table.column} from {source.low} to {source.high}",
            found=f"{row[0]:,} others",
            next="see what that table is; rename it if it is none of the partitions",
        )


def _store(
    connection: Connection,
    opened: Opened,
    settings: Settings,
    source: Source,
    archive_id: str,
    found: tuple[Column, ...],
    progress: Progress,
) -> list[BackupObject]:
    stored: list[BackupObject] = []
    told = _Told(source.name, progress)
    for number, chunks in enumerate(
        parquet.files(connection, source.relation, found, settings.partitions.archive_slice_bytes)
    ):
        stored.append(
            archives.put(opened, "postgres", source.table.name, archive_id, number, told.counting(chunks))
        )
    return stored


class _Told:
    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress, self._at, self._bytes = name, progress, time.monotonic(), 0

    def counting(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._bytes += len(chunk)
            if time.monotonic() - self._at > _TOLD_EVERY_SECONDS:
                self._at = time.monotonic()
                self._progress(f"{self._name}: {self._bytes >> 20:,} MiB of Parquet stored")
            yield chunk
