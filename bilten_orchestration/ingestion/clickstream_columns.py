"""The rules of the clickstream, applied to whole columns.

`clean` takes one chunk of rows as Arrow columns and splits it into what goes in and what is refused.
Text is cleaned once per distinct value, ids are checked and packed as bytes: 3 million rows take
seconds, and memory follows the size of the chunk alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bilten_orchestration.errors import Problem, UsageError
from bilten_orchestration.ingestion import clickstream_rules as rules

IDS: Final = ("click_id", "session_id", "visitor_id")
OPTIONAL_IDS: Final = ("event_id", "user_id", "organizer_id")
TEXTS: Final = ("event_type", "event_name", "user_agent", "ip_address", "referrer", "page_url")
FIELDS: Final = (*IDS, *OPTIONAL_IDS, *TEXTS, "timestamp", "properties")
ZERO: Final = bytes(16)

TIMESTAMP: Final = pa.timestamp("ms", "UTC")
_ID = pa.binary(16)
_MAP = pa.map_(pa.string(), pa.string())

Faults = Mapping[str, "np.ndarray[Any, np.dtype[np.bool_]]"]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One chunk after the rules.

    `accepted` holds every column of analytics.events but local_date, `refused` those of
    analytics.events_rejected; `reasons` are the reasons of the refused rows.
    """

    accepted: pa.RecordBatch
    refused: pa.RecordBatch
    reasons: list[str]
    properties_dropped: int


@dataclass(slots=True)
class _Faults:
    """Which rows broke which rule in which field; the first rule found names the reason."""

    rows: int
    found: list[tuple[str, str, Mask]] = field(default_factory=list)

    def add(self, reason: str, name: str, mask: Mask) -> None:
        if mask.any():
            self.found.append((reason, name, mask))

    def refused(self) -> Mask:
        refused = np.zeros(self.rows, dtype=bool)
        for _, _, mask in self.found:
            refused |= mask
        return refused

    def describe(self, refused: Mask) -> tuple[list[str], list[list[str]]]:
        positions = {int(row): index for index, row in enumerate(np.flatnonzero(refused))}
        reasons = [""] * len(positions)
        fields: list[list[str]] = [[] for _ in positions]
        for reason, name, mask in self.found:
            for row in np.flatnonzero(mask):
                at = positions[int(row)]
                reasons[at] = reasons[at] or reason
                if name and name not in fields[at]:  # a row that is no mapping has no field at fault
                    fields[at].append(name)
        return reasons, fields


def check_schema(schema: pa.Schema) -> None:
    """Refuse a table whose columns cannot be clicks: UsageError with every problem."""
    problems = []
    for name in (*IDS, "event_type", "timestamp"):
        if schema.get_field_index(name) < 0:
            problems.append(
                Problem(f"the table has no column {name}", f"a column {name}", ", ".join(schema.names))
            )
    for name in (*FIELDS, "ingested_at"):
        at = schema.get_field_index(name)
        if at >= 0 and not _acceptable(name, schema.field(at).type):
            moment = "timestamp with a time zone"
            expected = {"timestamp": moment, "ingested_at": moment, "properties": "map of text to text"}
            problems.append(
                Problem(
                    f"column {name} has the wrong type",
                    expected.get(name, "text, 16 bytes or uuid" if name in (*IDS, *OPTIONAL_IDS) else "text"),
                    str(schema.field(at).type),
                    "cast the column before writing the table",
                )
            )
    if problems:
        raise UsageError(problems)


def _acceptable(name: str, kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        return True
    if name in ("timestamp", "ingested_at"):
        return bool(pa.types.is_timestamp(kind) and kind.tz is not None)
    if name == "properties":
        return bool(pa.types.is_map(kind) and _is_text(kind.key_type) and _is_text(kind.item_type))
    return _is_text(kind) or (name in (*IDS, *OPTIONAL_IDS) and _is_packed(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_packed(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return bool(kind == _ID)


def clean(
    chunk: pa.RecordBatch,
    *,
    now: datetime,
    oldest: timedelta,
    faults: Mapping[str, Mask] | None = None,
    ingested: bool = False,
) -> Cleaned:
    """Apply every rule to one chunk.

    `now` and `oldest` bound the timestamps. `faults` are rows that were already found to hold a value
    of the wrong kind, by field. `ingested`: the column `ingested_at` is theirs to say.
    """
    broken = _Faults(chunk.num_rows)
    for name, mask in (faults or {}).items():
        broken.add("wrong type", name, mask)
    wrong = faults or {}
    columns: dict[str, pa.Array] = {}
    for name in (*IDS, *OPTIONAL_IDS):
        columns[name] = _ids(_column(chunk, name), name, broken, wrong.get(name))
    columns["timestamp"] = _timestamps(
        _column(chunk, "timestamp"), now, oldest, broken, wrong.get("timestamp")
    )
    if ingested:
        columns["ingested_at"] = _ingested(_column(chunk, "ingested_at"), columns["timestamp"], now, broken)
    columns["event_type"] = _event_types(_text(chunk, "event_type"), broken, wrong.get("event_type"))
    columns["event_name"] = names = _text(chunk, "event_name")
    named = pc.or_(pc.equal(names, ""), pc.match_substring_regex(names, rules.NAME_PATTERN))
    broken.add("not a name", "event_name", ~_mask(named))
    columns["ip_address"] = _ip_addresses(_text(chunk, "ip_address"), broken)
    urls = _by_distinct(_text(chunk, "page_url"), rules.page_url)
    broken.add("not a web address", "page_url", _mask(urls.is_null()))
    columns["page_url"] = urls
    columns["referrer"] = _by_distinct(_text(chunk, "referrer"), rules.referrer)
    columns["user_agent"] = _by_distinct(_text(chunk, "user_agent"), rules.user_agent)
    columns["properties"], dropped = _properties(_column(chunk, "properties"), chunk.num_rows)

    refused = broken.refused()
    reasons, fields = broken.describe(refused)
    return Cleaned(
        accepted=pa.RecordBatch.from_pydict(columns).filter(pa.array(~refused)),
        refused=pa.RecordBatch.from_pydict(
            {
                "reason": pa.array(reasons, pa.string()),
                "fields": pa.array(fields, pa.list_(pa.string())),
                "row_hash": _hashes(chunk.filter(pa.array(refused))),
            }
        ),
        reasons=reasons,
        properties_dropped=dropped,
    )


def _hashes(refused: pa.RecordBatch) -> pa.Array:
    if "row_hash" in refused.schema.names:
        return refused.column("row_hash")
    names = [name for name in refused.schema.names if name in FIELDS]
    return pa.array([rules.row_hash(row) for row in refused.select(names).to_pylist()], pa.uint64())


def _column(chunk: pa.RecordBatch, name: str) -> pa.Array:
    at = chunk.schema.get_field_index(name)
    if at < 0:
        return pa.nulls(chunk.num_rows)
    array = chunk.column(at)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _text(chunk: pa.RecordBatch, name: str) -> pa.Array:
    return pc.fill_null(_column(chunk, name).cast(pa.string()), "")


def _mask(array: pa.Array) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False)
    return mask


def _ids(array: pa.Array, name: str, broken: _Faults, wrong: Mask | None) -> pa.Array:
    """Ids as 16 bytes, in the order in which they are written as text. Zero stands for none."""
    if array.type == _ID:
        packed = pc.fill_null(array, ZERO)
    else:
        text = pc.fill_null(array.cast(pa.string()), "")
        well_formed = pc.match_substring_regex(text, rules.UUID_PATTERN)
        broken.add("not a UUID", name, ~(_mask(well_formed) | _mask(pc.equal(text, ""))))
        digits = pc.replace_substring(pc.if_else(well_formed, text, _ZERO_TEXT), "-", "")
        packed = pa.FixedSizeBinaryArray.from_buffers(
            _ID, len(digits), [None, pa.py_buffer(bytes.fromhex(_characters(digits)))]
        )
    if name in IDS:
        missing = _mask(pc.equal(packed, pa.scalar(ZERO, _ID)))
        for _, other, mask in broken.found:
            if other == name:
                missing = missing & ~mask
        broken.add("missing", name, missing if wrong is None else missing & ~wrong)
    return packed


_ZERO_TEXT = "00000000-0000-0000-0000-000000000000"


def _characters(texts: pa.StringArray) -> str:
    _, offsets, data = texts.buffers()
    if data is None or len(texts) == 0:
        return ""
    ends = np.frombuffer(offsets, dtype=np.int32)
    first, last = int(ends[texts.offset]), int(ends[texts.offset + len(texts)])
    return bytes(data[first:last]).decode("ascii")


def _timestamps(
    array: pa.Array, now: datetime, oldest: timedelta, broken: _Faults, wrong: Mask | None
) -> pa.Array:
    missing = _mask(array.is_null())
    broken.add("missing", "timestamp", missing if wrong is None else missing & ~wrong)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), TIMESTAMP)
    filled = pc.fill_null(array, pa.scalar(now, array.type))
    # floor, so that no moment jumps into the next day
    moments = pc.floor_temporal(filled, unit="millisecond").cast(TIMESTAMP)
    broken.add(
        "in the future", "timestamp", _mask(pc.greater(moments, pa.scalar(now + rules.FUTURE, TIMESTAMP)))
    )
    broken.add("too old", "timestamp", _mask(pc.less(moments, pa.scalar(now - oldest, TIMESTAMP))))
    return moments


def _ingested(array: pa.Array, timestamps: pa.Array, now: datetime, broken: _Faults) -> pa.Array:
    broken.add("missing", "ingested_at", _mask(array.is_null()))
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), TIMESTAMP)
    moments = pc.floor_temporal(pc.fill_null(array, pa.scalar(now, array.type)), unit="millisecond").cast(
        TIMESTAMP
    )
    delay = pc.subtract(moments, timestamps)
    possible = pc.and_(
        pc.less_equal(delay, pa.scalar(rules.LATE, delay.type)),
        pc.greater_equal(delay, pa.scalar(-rules.FUTURE, delay.type)),
    )
    broken.add("not a time of arrival", "ingested_at", ~_mask(pc.fill_null(possible, True)))
    return moments


def _event_types(types: pa.Array, broken: _Faults, wrong: Mask | None) -> pa.Array:
    missing = _mask(pc.equal(types, ""))
    broken.add("missing", "event_type", missing if wrong is None else missing & ~wrong)
    broken.add(
        "unknown event type",
        "event_type",
        ~(_mask(pc.is_in(types, value_set=pa.array(rules.EVENT_TYPES))) | missing),
    )
    return types


def _ip_addresses(texts: pa.Array, broken: _Faults) -> pa.Array:
    plain = pc.match_substring_regex(texts, rules.IPV4_PATTERN)  # nearly all: no Python per address
    truncated = pc.replace_substring_regex(pc.if_else(plain, texts, ""), r"\.[0-9]+$", ".0")
    others = _by_distinct(pc.if_else(plain, "", texts), rules.ip_address)
    broken.add("not an IP address", "ip_address", _mask(others.is_null()))
    return pc.if_else(plain, truncated, others)


def _by_distinct(texts: pa.Array, rule: Callable[[str], str | None]) -> pa.Array:
    encoded = texts.dictionary_encode()
    values = pa.array([rule(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return values.take(encoded.indices)


def _properties(array: pa.Array, rows: int) -> tuple[pa.Array, int]:
    """Allowed keys with a value, and how many others were dropped."""
    if pa.types.is_null(array.type) or rows == 0:
        return pa.MapArray.from_arrays(
            np.zeros(rows + 1, np.int32), pa.array([], pa.string()), pa.array([], pa.string())
        ), 0
    offsets = array.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    keys = _plain_text(array.keys.slice(first, last - first))
    values = _by_distinct(
        pc.fill_null(_plain_text(array.items.slice(first, last - first)), ""), rules.property_value
    )
    owner = np.repeat(np.arange(rows), np.diff(offsets))
    allowed = _mask(pc.is_in(keys, value_set=pa.array(rules.PROPERTIES)))
    allowed &= ~_mask(array.is_null())[owner]
    kept = allowed & ~_mask(pc.equal(values, ""))
    counts = np.bincount(owner[kept], minlength=rows)
    starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    chosen = pa.array(kept)
    maps = pa.MapArray.from_arrays(pa.array(starts), keys.filter(chosen), values.filter(chosen))
    return maps, int(np.count_nonzero(~allowed))


def _plain_text(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.string())
