"""Clicks as the application has them, one mapping each, turned into columns.

Only kinds of values are judged here (a number is no id); what a value may be is for the rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from typing import Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa

from bilten_orchestration.ingestion import clickstream_columns as columns
from bilten_orchestration.ingestion.clickstream_rules import row_hash

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class _WrongType(Exception):
    pass


def as_columns(
    rows: Iterable[Mapping[str, object]], chunk_rows: int
) -> Iterator[tuple[pa.RecordBatch, columns.Faults]]:
    """Chunks of columns, each with the rows that hold a value of the wrong kind, by field.

    A chunk also has a column `row_hash` when it has such rows: the columns no longer show what they held.
    """
    source = iter(rows)
    while chunk := list(islice(source, chunk_rows)):
        yield _chunk(chunk)


def _chunk(rows: list[Mapping[str, object]]) -> tuple[pa.RecordBatch, columns.Faults]:
    values: dict[str, list[Any]] = {name: [] for name in columns.FIELDS}
    faults: dict[str, np.ndarray[Any, np.dtype[np.bool_]]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            faults.setdefault("", np.zeros(len(rows), dtype=bool))[number] = True
            row = {}
        for name in columns.FIELDS:
            value: Any = row.get(name)
            if value is not None:
                try:
                    value = _READ[name](value)
                except (_WrongType, ValueError, OverflowError):
                    faults.setdefault(name, np.zeros(len(rows), dtype=bool))[number] = True
                    value = None
            values[name].append(value)
    arrays = {name: pa.array(values[name], _TYPES[name]) for name in columns.FIELDS}
    arrays["row_hash"] = pa.array([row_hash(row) if faults else 0 for row in rows], pa.uint64())
    if not faults:
        del arrays["row_hash"]
    return pa.RecordBatch.from_pydict(arrays), faults


def _identifier(value: object) -> str:
    return str(value) if isinstance(value, UUID) else _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _WrongType
    value.encode()  # a lone surrogate is no text: UnicodeEncodeError is a ValueError
    return value


def _address(value: object) -> str:
    return str(value) if isinstance(value, IPv4Address | IPv6Address) else _text(value)


def _moment(value: object) -> int:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _WrongType
    return (value - _EPOCH) // _MILLISECOND


def _properties(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping):
        raise _WrongType
    # an unknown key is kept here, without its value, so that it is counted as dropped
    return [(key if isinstance(key, str) else "", _property(item)) for key, item in value.items()]


def _property(value: object) -> str:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return str(value) if isinstance(value, int | float | Decimal | UUID) else ""


_READ: Final = {
    **dict.fromkeys((*columns.IDS, *columns.OPTIONAL_IDS), _identifier),
    **dict.fromkeys(columns.TEXTS, _text),
    "ip_address": _address,
    "timestamp": _moment,
    "properties": _properties,
}
_TYPES: Final = {
    **dict.fromkeys((*columns.IDS, *columns.OPTIONAL_IDS, *columns.TEXTS), pa.string()),
    "timestamp": columns.TIMESTAMP,
    "properties": pa.map_(pa.string(), pa.string()),
}
