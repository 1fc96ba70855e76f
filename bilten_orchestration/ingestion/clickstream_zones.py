"""Local days of clicks: in the zone of the organization whose event was looked at, else UTC.

Zones come from bilten_raw (what the sync has applied). Days are computed here, from pinned zone rules
(`timezones`), for whole columns: ClickHouse takes a zone only as a constant, and
toDate(toTimeZone(timestamp, column)) gives the wrong day without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa

from bilten_orchestration import timezones

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    Integers = np.ndarray[Any, np.dtype[np.int64]]

MILLISECONDS_A_DAY: Final = 86_400_000
_QUARTER = 15 * 60_000  # since 1972 clocks change at full quarters of an hour of UTC
_EVENTS_PER_QUERY = 2_000  # 80 kB of literals; the server refuses statements above 256 KiB


@lru_cache(1024)
def zone(name: str) -> ZoneInfo | None:
    """The zone of that IANA name; None where there is none."""
    try:
        return timezones.zone(name)
    except ZoneInfoNotFoundError:
        return None


def applied_zones(client: Client, events: Iterable[UUID]) -> dict[UUID, str]:
    """Zones of those events that the sync has brought with an organization; the others are missing."""
    wanted = sorted(set(events))
    found: dict[UUID, str] = {}
    for start in range(0, len(wanted), _EVENTS_PER_QUERY):
        literals = ",".join(f"'{event}'" for event in wanted[start : start + _EVENTS_PER_QUERY])
        rows = client.query(
            "select e.id, o.timezone from ("
            f" select id, organization_id from bilten_raw.events_events final where id in ({literals})"
            ") as e"
            " inner join (select id, timezone from bilten_raw.users_organizations final) as o"
            " on o.id = e.organization_id"
        ).result_rows
        found.update((UUID(str(event)), str(name)) for event, name in rows)
    return found


def local_dates(timestamps: pa.Array, events: pa.Array, zones: Mapping[UUID, str]) -> pa.Array:
    """date32 per click. `timestamps`: timestamp[ms, UTC]; `events`: 16 bytes, zero for none."""
    moments: Integers = timestamps.cast(pa.int64()).to_numpy()
    encoded = events.dictionary_encode()
    names = [zones.get(UUID(bytes=event), "UTC") for event in encoded.dictionary.to_pylist()]
    by_name = {name: number for number, name in enumerate(dict.fromkeys(names))}
    row_zone = np.array([by_name[name] for name in names], dtype=np.int32)[encoded.indices.to_numpy()]
    days = moments // MILLISECONDS_A_DAY
    for name, number in by_name.items():
        if (known := zone(name)) is not None and name != "UTC":
            rows = np.flatnonzero(row_zone == number)
            days[rows] = _days_in(moments[rows], known)
    return pa.array(days.astype(np.int32)).cast(pa.date32())


def _days_in(moments: Integers, known: ZoneInfo) -> Integers:
    """Local days, in days since 1970. Days of UTC without a clock change need two look-ups each."""
    utc_days = moments // MILLISECONDS_A_DAY
    distinct, position = np.unique(utc_days, return_inverse=True)
    starts = np.array([_offset(known.key, int(day) * MILLISECONDS_A_DAY) for day in distinct], dtype=np.int64)
    ends = np.array(
        [_offset(known.key, (int(day) + 1) * MILLISECONDS_A_DAY) for day in distinct], dtype=np.int64
    )
    offsets = starts[position]
    changing = np.flatnonzero((starts != ends)[position])
    if changing.size:
        quarters, place = np.unique(moments[changing] // _QUARTER, return_inverse=True)
        exact = np.array(
            [_offset(known.key, int(quarter) * _QUARTER) for quarter in quarters], dtype=np.int64
        )
        offsets[changing] = exact[place]
    local: Integers = (moments + offsets) // MILLISECONDS_A_DAY
    return local


@lru_cache(1 << 16)
def _offset(name: str, milliseconds: int) -> int:
    """How far local clocks are ahead of UTC at that moment, in milliseconds."""
    offset = (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds))
        .astimezone(timezones.zone(name))
        .utcoffset()
    )
    assert offset is not None  # noqa: S101 (a ZoneInfo always has one)
    return round(offset.total_seconds() * 1000)


def distinct_events(events: pa.Array) -> Collection[UUID]:
    """The ticketed events among the clicks, without the zero UUID."""
    return {UUID(bytes=event) for event in events.unique().to_pylist() if any(event)}
