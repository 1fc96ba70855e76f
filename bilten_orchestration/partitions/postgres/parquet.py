"""Rows of PostgreSQL as Parquet files, and back: streamed, one row group in memory.

COPY prints rows as CSV, which Arrow reads in C++; the way back is the same. A NULL is an empty field and an
empty string a quoted one, on both sides. A row group is of ROW_GROUP_BYTES of that text, or of one row, if
that is larger; a file is of about `slice_bytes` of Parquet, and complete in itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from psycopg import sql

from bilten_orchestration.partitions.archives import Column
from bilten_orchestration.partitions.postgres import columns as columns_
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_BYTES = 16 << 20
_LEVEL = 3
_BATCH_ROWS = 16_384
_OUT = "copy (select {names} from only {relation}) to stdout (format csv, encoding 'UTF8')"
_IN = "copy {relation} ({names}) from stdin (format csv, encoding 'UTF8')"


def files(
    connection: Connection, relation: sql.Composable, columns: Sequence[Column], slice_bytes: int
) -> Iterator[Iterator[bytes]]:
    """Each file as its chunks, to be taken to its end before the next one is asked for; at least one, also
    of no rows."""
    statement = sql.SQL(_OUT).format(names=columns_.names(columns), relation=relation)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        groups = _Groups(_parsed_groups(copy, columns))
        yield _file(groups, columns, slice_bytes)
        while groups.has_more():
            yield _file(groups, columns, slice_bytes)


def load(connection: Connection, relation: sql.Composable, columns: Sequence[Column], file: IO[bytes]) -> int:
    """The rows of one Parquet file into a table that has these columns; how many. Those that are generated
    there are left out by the caller.

    Raises psycopg.Error, and pyarrow.ArrowException for what is no such file.
    """
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    rows = 0
    names = [each.name for each in columns]
    statement = sql.SQL(_IN).format(names=columns_.names(columns), relation=relation)
    options = csv.WriteOptions(include_header=False)
    with pq.ParquetFile(file) as parquet, connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=names, use_threads=False):
            rows += batch.num_rows
            text = io.BytesIO()
            csv.write_csv(batch, text, options)
            copy.write(text.getbuffer())
    return rows


def _parsed_groups(
    rows: Iterable[bytes | bytearray | memoryview], columns: Sequence[Column]
) -> Iterator[pa.Table]:
    """libpq gives one row at a time, whole: so a block of them is parsed alone."""
    block, size = [], 0
    for row in rows:
        block.append(bytes(row))
        size += len(row)
        if size >= ROW_GROUP_BYTES:
            yield _parsed(b"".join(block), columns)
            block, size = [], 0
    if block:
        yield _parsed(b"".join(block), columns)


def _parsed(text: bytes, columns: Sequence[Column]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.csv as csv

    schema = columns_.schema(columns)
    return csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(column_names=schema.names, block_size=len(text) + 1, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(columns) > 1),
        convert_options=csv.ConvertOptions(
            column_types={field.name: field.type for field in schema},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


class _Groups:
    """Knows whether there is another one."""

    def __init__(self, groups: Iterator[pa.Table]) -> None:
        self._groups = groups
        self._next: pa.Table | None = next(groups, None)

    def has_more(self) -> bool:
        return self._next is not None

    def take(self) -> pa.Table:
        now, self._next = self._next, None
        assert now is not None  # noqa: S101
        self._next = next(self._groups, None)
        return now


def _file(groups: _Groups, columns: Sequence[Column], slice_bytes: int) -> Iterator[bytes]:
    import pyarrow.parquet as pq

    sink = _Sink()
    with pq.ParquetWriter(
        sink, columns_.schema(columns), compression="zstd", compression_level=_LEVEL
    ) as writer:
        while groups.has_more() and sink.bytes < slice_bytes:
            group = groups.take()
            writer.write_table(group, row_group_size=max(1, group.num_rows))
            yield from sink.drain()
    yield from sink.drain()


class _Sink(io.RawIOBase):
    """What the writer wrote since the last look."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []
        self.bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        written = bytes(data)  # type: ignore[call-overload]
        self._written.append(written)
        self.bytes += len(written)
        return len(written)

    def drain(self) -> Iterator[bytes]:
        taken, self._written = self._written, []
        yield from taken
