"""Archives one month: the server writes Parquet, which is encrypted on its way into the repository.

What a kill leaves, by the step it comes in:

    1  rows are digested                                             nothing
    2  files are streamed into the bucket, some per day              objects without a document: no archive,
                                                                     swept later; begun anew
    3  they are read back into a table of its own, whose digest      the same, and that table, which the next
       must be the month's, and the month's must still be the same   run empties
    4  the document is written                                       an archive

The month is only read. Types without an exact match in Arrow (UUID) are text.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.partitions import archives
from bilten_orchestration.partitions.archives import Archive, Column
from bilten_orchestration.partitions.clickhouse import digest
from bilten_orchestration.partitions.clickhouse.digest import Measured
from bilten_orchestration.partitions.clickhouse.months import Month, columns, name_of, proof
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_READ_BYTES = 1 << 20
# sets what the file says and not what the server happens to prefer
_WRITING = {
    "output_format_parquet_compression_method": "zstd",
    "output_format_parquet_string_as_string": 1,
    "output_format_parquet_row_group_size": 100_000,
}
_ARROW = {"DateTime64(3, 'UTC')": "timestamp[ms, tz=UTC]", "Date32": "date32[day]", "Date": "date32[day]"}


def make(
    client: Client,
    opened: Opened,
    table: PartitionedTable,
    month: Month,
    *,
    slice_bytes: int,
    run: str | None,
    progress: Progress,
) -> Archive:
    """Raises Mismatch (what was read back, or the month itself, is not what was written; no archive is left),
    clickhouse_connect's errors and what the object store does."""
    begun_at = datetime.now(UTC)
    name = name_of(table, month.period)
    stored = columns(client, table.name)
    progress(f"{name}: counting and digesting")
    before = digest.compute(client, table.name, stored, month.period)
    archive_id = archives.new_id(month.period.start, begun_at)
    objects = []
    for number, (condition, rows) in enumerate(_files(month, before, slice_bytes)):
        progress(f"{name}: file {number + 1}, about {rows} rows")
        chunks = _parquet(client, table.name, stored, condition)
        objects.append(archives.put(opened, "clickhouse", table.name, archive_id, number, chunks))
    draft = Archive(
        id=archive_id,
        store="clickhouse",
        table=table.name,
        partition=name,
        from_at=month.period.start,
        to_at=month.period.end,
        columns=tuple(_column(*each) for each in stored),
        rows=before.rows,
        digest=before.digest,
        digest_method=digest.METHOD,
        raw_bytes=month.bytes,
        codec=opened.settings.codec,
        objects=tuple(objects),
        key_id=opened.ring.current,
        source=str(client.query("select toString(serverUUID())").result_rows[0][0]),
        begun_at=begun_at,
        proven_at=begun_at,
        versions={"clickhouse": str(client.server_version)},
        run=run,
    )
    try:
        back = read_back(client, opened, draft, table, progress)
        require_equal(draft, back, "was read back from the bucket")
        after = digest.compute(client, table.name, stored, month.period)
        require_equal(draft, after, "is in the table by now")
    finally:
        client.command(f"drop table if exists {proof(table)} sync")
    proven = replace(draft, proven_at=datetime.now(UTC))
    archives.add(opened, proven)
    return proven


def read_back(
    client: Client, opened: Opened, archive: Archive, table: PartitionedTable, progress: Progress
) -> Measured:
    """Every file, from the bucket, into a new table, `proof(table)`, which the caller drops."""
    from bilten_orchestration.partitions.bounds import Period

    assert archive.from_at is not None  # noqa: S101 a month has bounds
    client.command(f"drop table if exists {proof(table)} sync")
    client.command(f"create table {proof(table)} as {table.name}")
    names = [each.name for each in archive.columns]
    for number, each in enumerate(archive.objects, 1):
        progress(f"{archive.partition}: reading file {number} of {len(archive.objects)} from the bucket")
        client.raw_insert(
            proof(table), names, _bytes(archives.get(opened, archive, each)), fmt="Parquet",
            settings={"insert_deduplicate": 0},
        )  # fmt: skip
    stored = [(each.name, each.type) for each in archive.columns]
    return digest.compute(client, proof(table), stored, Period.of(archive.from_at))


def require_equal(archive: Archive, found: Measured, what: str) -> None:
    """Raises Mismatch."""
    if found.digest != archive.digest:
        raise Mismatch(
            f"what {what} of {archive.partition} is not what was archived",
            expected=f"{archive.rows:,} rows, digest {archive.digest}",
            found=f"{found.rows:,} rows, digest {found.digest}",
            next="nothing was dropped: see who writes into an old month; the next run archives it anew",
        )


def _files(month: Month, found: Measured, slice_bytes: int) -> Iterator[tuple[str, int]]:
    """(condition, rows) of each file: a day, or one of the equal parts of a day that is larger. At least one
    file, also of no rows: an archive without a file could not be read back."""
    per_row = month.bytes / max(month.rows, 1)
    for day, rows in found.days or ((f"{month.period.first}", 0),):
        parts = max(1, round(rows * per_row / slice_bytes + 0.5))
        for part in range(parts):
            cut = f" and cityHash64(click_id) % {parts} = {part}" if parts > 1 else ""
            yield f"created_date = toDate('{day}'){cut}", rows // parts


def _parquet(
    client: Client, table: str, stored: Sequence[tuple[str, str]], condition: str
) -> Iterator[bytes]:
    chosen = ", ".join(f"{_written(kind, name)} as {name}" for name, kind in stored)
    stream: Any = client.raw_stream(
        # the alias must not stand in for the column in the condition
        f"select {chosen} from {table} final where {condition} settings prefer_column_name_to_alias = 1",
        fmt="Parquet",
        settings=_WRITING,
    )
    try:
        while chunk := stream.read(_READ_BYTES):
            yield chunk
    finally:
        stream.close()


def _bytes(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    yield from chunks


def _written(kind: str, name: str) -> str:
    if kind == "UUID":
        return f"toString({name})"
    if kind == "LowCardinality(String)":
        return f"toString({name})"
    if kind == "Map(LowCardinality(String), String)":
        return f"cast({name} as Map(String, String))"
    return name


def _column(name: str, kind: str) -> Column:
    arrow = "map<string, string>" if kind.startswith("Map(") else _ARROW.get(kind, "string")
    return Column(name, kind, arrow, as_text=kind == "UUID")
