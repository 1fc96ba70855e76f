"""What happened between two looks at pg_stat_statements. Pure.

Counters only grow while an entry lives. What is counted, by case (the tests have the same numbers):

1. A database without an earlier look: nothing; its counters are of an unknown past.
2. The epoch is another one (a failover, a restore, another server): nothing; these are counters of what
   another server did, partly before it was looked at.
3. `stats_reset` is the same: an entry that was there counts by its difference.
4. The same, and the entry is new: all of it, for it had no calls at the last look.
5. The same, and the entry was evicted and made again (`stats_since` differs; before PostgreSQL 17 a counter
   that fell): all of what it has now. What it had gathered before it was evicted is lost to everybody.
6. `stats_reset` is another one and later than the last look (a reset, or a crash, which forgets the
   statistics): all of every entry. A clean restart keeps them, and is case 3.
7. `stats_reset` is another one and earlier than the last look: statistics that this server had put aside;
   nothing, as in case 2.
8. A counter fell in an entry that is the same: nothing of it, and it is told. Never a negative number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from bilten_orchestration.observability.queries.statistics import Counters, Entry, Key, Reading

Basis = Literal["first look", "other server", "older statistics", "since last look", "since reset"]


@dataclass(frozen=True, slots=True)
class Look:
    """The last look at one database, as it was kept."""

    epoch: Mapping[str, object]
    looked_at: datetime
    stats_reset: datetime
    evictions: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Between the last look and this one, of one database.

    `since` is None where nothing could be counted. `evictions` are of the whole server: entries that went,
    and with them what they had gathered since the last look. `fell` are entries of case 8.
    """

    database: str
    basis: Basis
    since: datetime | None
    until: datetime
    evictions: int
    counted: dict[Key, Counters] = field(default_factory=dict)
    fell: tuple[Key, ...] = ()


def difference(
    look: Look | None,
    baseline: Mapping[Key, Entry],
    reading: Reading,
    epoch: Mapping[str, object],
    database_oid: int,
) -> Difference:
    """`baseline` are the entries of that look; those of other databases are not read."""
    name = reading.databases[database_oid]
    if look is None:
        return Difference(name, "first look", None, reading.at, 0)
    if dict(look.epoch) != dict(epoch):
        return Difference(name, "other server", None, reading.at, 0)
    same = look.stats_reset == reading.stats_reset
    if not same and reading.stats_reset < look.looked_at:
        return Difference(name, "older statistics", None, reading.at, 0)
    counted, fell = {}, []
    for key, entry in reading.entries.items():
        if key.database_oid != database_oid:
            continue
        now = entry.counters
        before = baseline.get(key) if same else None
        if before is not None and before.stats_since == entry.stats_since:
            grown = now.minus(before.counters)
            if not grown.fell:
                now = grown
            elif entry.stats_since is not None:
                fell.append(key)
                continue
        if now.calls > 0:
            counted[key] = now
    return Difference(
        name,
        "since last look" if same else "since reset",
        min(look.looked_at, reading.at),
        reading.at,
        max(0, reading.evictions - look.evictions) if same else reading.evictions,
        counted,
        tuple(sorted(fell)),
    )


def slow(counted: Mapping[Key, Counters], *, mean_milliseconds: float, top: int) -> list[Key]:
    """Those above the mean, and the `top` ones by total; the heaviest first."""
    by_total = sorted(counted, key=lambda key: (-counted[key].total_milliseconds, key))
    return [
        key
        for place, key in enumerate(by_total)
        if place < top or counted[key].total_milliseconds > mean_milliseconds * counted[key].calls
    ]
