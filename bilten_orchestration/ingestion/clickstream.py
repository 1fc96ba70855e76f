"""The one writer of analytics.events.

`write` takes rows as the application has them, `write_table` whole columns; both apply the same rules
(`clickstream_rules`). A row that breaks one goes to analytics.events_rejected without its content, the
rest goes in: one bad row never holds up good ones. Rows are written in chunks, refused ones first.

What a kill leaves behind: chunks that were acknowledged are in, the one in flight is in or not. Send
the same rows again. A chunk that is the same as before carries the same insert_deduplication_token and
is dropped by the server, by analytics.events and by the per-minute table behind it, each for itself
(so a server killed between the two catches up). Rows that come again in another chunk are stored twice
until they merge; every reader counts distinct click_id, and the per-minute states do so by themselves.

Local days: the zone of a click's event may change, or arrive, while a chunk is under way. So the zones
are read again after a chunk was acknowledged, and clicks of events whose zone differs are moved
(`clickstream_relocation`). The sync does the same for zones that it brings later, after it has written
them (`relocate`, then `settle` once the days it returned are marked); between the two no order of steps
leaves a click on the wrong day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from bilten_orchestration.errors import UsageError
from bilten_orchestration.ingestion import clickstream_columns as columns
from bilten_orchestration.ingestion import clickstream_rules as rules
from bilten_orchestration.ingestion.clickstream_relocation import RelocationReport, relocate, settle
from bilten_orchestration.ingestion.clickstream_rows import as_columns
from bilten_orchestration.ingestion.clickstream_zones import applied_zones, distinct_events, local_dates
from bilten_orchestration.progress import Progress, silent

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["ClickstreamReport", "RelocationReport", "relocate", "settle", "write", "write_table"]

CHUNK_ROWS: Final = 100_000  # 50 MB of columns here, 300 MB in the server with the per-minute states
_PROGRESS_ROWS = 1_000_000

Zones = Mapping[UUID, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClickstreamReport:
    """What became of the rows. `rows_written` counts what the server acknowledged, repeats included."""

    rows_read: int
    rows_written: int
    rows_rejected: int
    rejected_by_reason: dict[str, int]
    properties_dropped: int
    rows_without_zone: int  # of events that no zone is known for: on UTC days until the sync brings one
    local_days: tuple[date, ...]


def write(
    client: Client,
    rows: Iterable[Mapping[str, object]],
    *,
    zones: Zones | None = None,
    history: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    now: datetime | None = None,
    progress: Progress = silent,
) -> ClickstreamReport:
    """Validate and write clicks given as mappings with the column names of analytics.events.

    Ids as UUID or text, `timestamp` as an aware datetime or ISO 8601 text with an offset, `properties`
    as a mapping; unknown names are ignored. For the other arguments see `write_table`.
    """
    return _write(
        client, as_columns(rows, chunk_rows), zones=zones, history=history, now=now, progress=progress
    )


def write_table(
    client: Client,
    table: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch],
    *,
    zones: Zones | None = None,
    history: bool = False,
    chunk_rows: int = CHUNK_ROWS,
    now: datetime | None = None,
    progress: Progress = silent,
) -> ClickstreamReport:
    """Validate and write clicks given as Arrow columns: a table, a reader, or record batches.

    Ids as text, binary(16) or uuid; `timestamp` as a timestamp of any unit with a zone; `properties` as
    map<text, text>; texts also as dictionaries; missing optional columns and nulls mean none. Pass a
    reader or an iterator of batches when the rows do not fit into memory. Rows in order of time make
    few parts. Raises UsageError for a schema that cannot be clicks, before anything is written.

    `zones`: event to IANA name; default: what the sync has applied. `history`: accept timestamps of the
    last ten years instead of 72 h, and `ingested_at` (when the click arrived, at most 72 h after it) where
    the table has it; otherwise the server's clock says that. `now`: the clock against which timestamps
    are judged.
    """
    return _write(
        client, _chunks(table, chunk_rows), zones=zones, history=history, now=now, progress=progress
    )


def _chunks(
    source: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch], chunk_rows: int
) -> Iterator[tuple[pa.RecordBatch, columns.Faults]]:
    if isinstance(source, pa.Table | pa.RecordBatchReader):
        columns.check_schema(source.schema)
    batches = source.to_batches(max_chunksize=chunk_rows) if isinstance(source, pa.Table) else source
    for batch in batches:
        columns.check_schema(batch.schema)
        for start in range(0, batch.num_rows, chunk_rows):
            yield batch.slice(start, chunk_rows), {}


def _write(
    client: Client,
    chunks: Iterator[tuple[pa.RecordBatch, columns.Faults]],
    *,
    zones: Zones | None,
    history: bool,
    now: datetime | None,
    progress: Progress,
) -> ClickstreamReport:
    if now is not None and now.tzinfo is None:
        raise UsageError("now has no time zone", expected="an aware datetime", found=now.isoformat())
    read = written = dropped = homeless = told = 0
    reasons: Counter[str] = Counter()
    days: set[date] = set()
    oldest = rules.HISTORY if history else rules.LATE
    for rows, cleaned, token in _one_ahead(_judged(chunks, now, oldest, history)):
        if cleaned.reasons:
            _insert(client, "analytics.events_rejected", cleaned.refused, _token(cleaned.refused))
        if cleaned.accepted.num_rows:
            found, unknown = _insert_accepted(client, cleaned.accepted, token, zones)
            days.update(found)
            homeless += unknown
        read += rows
        written += cleaned.accepted.num_rows
        dropped += cleaned.properties_dropped
        reasons.update(cleaned.reasons)
        if read - told >= _PROGRESS_ROWS:
            told = read
            progress(f"clickstream: {read:,} rows read, {written:,} written, {reasons.total():,} refused")
    return ClickstreamReport(
        rows_read=read,
        rows_written=written,
        rows_rejected=reasons.total(),
        rejected_by_reason=dict(sorted(reasons.items())),
        properties_dropped=dropped,
        rows_without_zone=homeless,
        local_days=tuple(sorted(days)),
    )


def _judged(
    chunks: Iterator[tuple[pa.RecordBatch, columns.Faults]],
    now: datetime | None,
    oldest: timedelta,
    history: bool,
) -> Iterator[tuple[int, columns.Cleaned, str]]:
    for chunk, faults in chunks:
        arrived = history and "ingested_at" in chunk.schema.names
        cleaned = columns.clean(
            chunk, now=now or datetime.now(UTC), oldest=oldest, faults=faults, ingested=arrived
        )
        # the token leaves local_date out: a repeated chunk is the same whatever zones are known by now
        yield chunk.num_rows, cleaned, _token(cleaned.accepted)


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread while the last one is written to the server."""
    with ThreadPoolExecutor(1, thread_name_prefix="clickstream") as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def _insert_accepted(
    client: Client, accepted: pa.RecordBatch, token: str, given: Zones | None
) -> tuple[list[date], int]:
    """Write one chunk; its local days, and how many rows are of events without a known zone."""
    events = accepted.column("event_id")
    ticketed = distinct_events(events)
    zones = applied_zones(client, ticketed) if given is None else given
    dates = local_dates(accepted.column("timestamp"), events, zones)
    _insert(client, "analytics.events", accepted.append_column("local_date", dates), token)
    if given is None:
        later = applied_zones(client, ticketed)
        if changed := {event: name for event, name in later.items() if zones.get(event, "UTC") != name}:
            relocate(client, changed)
    unknown = [event.bytes for event in ticketed if event not in zones]
    rows = int(pc.sum(pc.is_in(events, value_set=pa.array(unknown, events.type))).as_py()) if unknown else 0
    return dates.unique().to_pylist(), rows


def _insert(client: Client, table: str, batch: pa.RecordBatch, token: str) -> None:
    settings: dict[str, Any] = {
        "insert_deduplication_token": token,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
        "max_partitions_per_insert_block": 0,  # history in any order: ten years have 121 months
        "optimize_on_insert": 0,  # merging inside the block before writing it takes 40 % longer
        "async_insert": 0,
    }
    body = bytes(_stream(batch, compression="lz4"))
    client.raw_insert(table, batch.schema.names, body, settings=settings, fmt="ArrowStream")


def _token(batch: pa.RecordBatch) -> str:
    return blake2b(_stream(batch, compression=None), digest_size=16).hexdigest()


def _stream(batch: pa.RecordBatch, *, compression: str | None) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
