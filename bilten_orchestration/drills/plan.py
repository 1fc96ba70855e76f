"""Every way back there is, and which of them are walked on a day. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.errors import UsageError
from bilten_orchestration.settings import Settings

#: Stores with backups, and search, which is built from another one's.
Drilled = Literal["postgres", "clickhouse", "redis", "search"]

#: Within which every way has to be walked.
EVERY_WAY_WITHIN = timedelta(days=8)
#: When drills are held (UTC), by store, and why then.
CRONS: Mapping[Drilled, tuple[str, str]] = {
    "postgres": ("0 5 * * *", "After the full backup of the night and the builds, before people come."),
    "clickhouse": ("30 5 * * *", "After PostgreSQL's drill, with whose restored rows marts are compared."),
    "redis": ("30 5 * * *", "With ClickHouse's; the pool lets one drill measure at a time."),
    "search": ("45 5 * * *", "After those of the stores with backups, and before the daily drift check."),
}
#: What a drill may be late, and take, before it counts as missing.
GRACE = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Way:
    """`daily` ways are walked by every drill of their store; of the others one a day, in turn. `newest`: it
    starts from the newest backup."""

    store: Drilled
    name: str
    daily: bool
    description: str
    newest: bool = True


WAYS = (
    Way(
        "postgres",
        "exact",
        True,
        "The newest chain, stopped at the exact consistent point of a snapshot of production: digests of"
        " every table are equal.",
    ),
    Way(
        "postgres",
        "moment",
        False,
        "A random moment inside the window of point-in-time recovery.",
        newest=False,
    ),
    Way(
        "postgres",
        "oldest_full",
        False,
        "The oldest full backup that retention keeps, as of its end.",
        newest=False,
    ),
    Way("postgres", "second_bucket", False, "The newest chain from the second bucket alone."),
    Way("postgres", "table", False, "One table from the newest dump.", newest=False),
    Way("postgres", "latest", False, "The end of WAL as it is stored, without asking for a new segment."),
    Way("clickhouse", "engine", True, "The newest backup into an engine of our own, and marts against both."),
    Way("redis", "server", True, "The newest backup into a server of our own."),
    Way(
        "search",
        "rebuild",
        True,
        "An index of the drill's own, built from the newest PostgreSQL that comes back, proven by the gates,"
        " compared with the live one and removed.",
    ),
)


def comes_from(store: Drilled) -> Store:
    """Whose backups a drill begins with: search has none of its own."""
    return "postgres" if store == "search" else store


def drilled(settings: Settings) -> tuple[Drilled, ...]:
    """Whose drills are held by these settings: of search none where it is off."""
    stores = dict.fromkeys(way.store for way in WAYS)
    return tuple(store for store in stores if store != "search" or settings.opensearch.enabled)


def ways_of(store: str) -> tuple[Way, ...]:
    return tuple(way for way in WAYS if way.store == store)


@dataclass(frozen=True, slots=True)
class Walked:
    """When a way was walked last, and whether to its good end."""

    at: datetime
    ok: bool


def due(store: str, walked: Mapping[str, Walked]) -> tuple[Way, ...]:
    """Those of a day: the daily ones; of the others the one that was walked longest ago, or never was; and
    one more that failed when it was walked last: it comes again, and keeps no other from its turn.

    `walked` is by name. Raises UsageError for a store that has none.
    """
    found = ways_of(store)
    if not found:
        stores = " or ".join(dict.fromkeys(way.store for way in WAYS))
        raise UsageError(f"there is no drill of {store!r}", expected=stores, found=store)
    never = Walked(datetime.min.replace(tzinfo=UTC), True)
    in_turn = sorted((way for way in found if not way.daily), key=lambda way: walked.get(way.name, never).at)
    again = [way for way in in_turn[1:] if not walked.get(way.name, never).ok]
    return (*(way for way in found if way.daily), *in_turn[:1], *again[:1])
