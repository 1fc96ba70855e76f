"""Local days of clicks: in the zone of the organization whose event was looked at, else UTC.

Zones come from bilten_raw (what the sync has applied). Days are computed here, from pinned zone rules
(`timezones`), for whole columns, and `day_expression` is the same in SQL: a server has rules of its own
(another year's), takes a zone only as a constant, and toDate(toTimeZone(timestamp, column)) gives the wrong
day without a word.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import numpy as np
import pyarrow as pa

from bilten_orchestration import timezones

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    Integers = np.ndarray[Any, np.dtype[np.int64]]

MILLISECONDS_A_DAY: Final = 86_400_000
_EVENTS_PER_QUERY = 2_000  # 80 kB of literals; the server refuses statements above 256 KiB


def known(name: str) -> bool:
    """Whether there are rules for that name."""
    return name in timezones.names()


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
        if name != "UTC" and known(name):
            rows = np.flatnonzero(row_zone == number)
            days[rows] = _days_in(moments[rows], name)
    return pa.array(days.astype(np.int32)).cast(pa.date32())


def _days_in(moments: Integers, name: str) -> Integers:
    """Local days, in days since 1970, of moments in milliseconds."""
    at, offset = (np.array(seconds, dtype=np.int64) * 1000 for seconds in timezones.changes(name))
    local: Integers = (moments + offset[np.searchsorted(at, moments, side="right")]) // MILLISECONDS_A_DAY
    return local


def distinct_events(events: pa.Array) -> Collection[UUID]:
    """The ticketed events among the clicks, without the zero UUID."""
    return {UUID(bytes=event) for event in events.unique().to_pylist() if any(event)}


def zone_expression(zones: Mapping[UUID, str]) -> str:
    """SQL for the number of an event's zone, in the order of names; 0 for any other event.

    Events and numbers are one constant each, however many: of 15,000 expressions, copied wherever the number
    is used, ClickHouse makes a query tree that it refuses as too big.
    """
    number = {name: place for place, name in enumerate(sorted(set(zones.values())), 1)}
    events = ",".join(f"'{event}'" for event in zones).replace("'", "\\'")
    numbers = ",".join(str(number[name]) for name in zones.values())
    lists = f"cast('[{events}]', 'Array(UUID)'), cast('[{numbers}]', 'Array(UInt16)')"
    return f"transform(event_id, {lists}, 0::UInt16)"


def day_expression(zones: Mapping[UUID, str], first: date, last: date) -> str:
    """SQL for the local day (Date32) of a click of these events between two days of UTC.

    `zone_number` is an alias for `zone_expression` that the statement defines. One branch for each zone, and
    ClickHouse computes a branch only for the rows that are in it.
    """
    branches = ", ".join(
        f"zone_number = {number}, {_offset_expression(name, first, last)}"
        for number, name in enumerate(sorted(set(zones.values())), 1)
    )
    return f"toDate32(addSeconds(timestamp, multiIf({branches}, 0)), 'UTC')"


def _offset_expression(name: str, first: date, last: date) -> str:
    """SQL for how far clocks are ahead of UTC at `timestamp`, in seconds."""
    at, offset = timezones.changes(name)
    start, end = _midnight(first), _midnight(last + timedelta(days=1))
    low, high = bisect_right(at, start), bisect_left(at, end)
    if low == high:
        return str(offset[low])
    until = ", ".join(
        f"timestamp < fromUnixTimestamp({at[change]}), {offset[change]}" for change in range(low, high)
    )
    return f"multiIf({until}, {offset[high]})"


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
