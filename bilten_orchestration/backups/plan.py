"""What is backed up, when and for how long: the one table that assets, checks, schedules, retention and
the command line are made of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from bilten_orchestration.backups.repository.manifest import Kind, Store
from bilten_orchestration.errors import UsageError

#: What a schedule may be late, and a backup may take, before it counts as missing.
GRACE = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Planned:
    """One kind of backup of one store.

    `every` is the longest interval of `cron` (UTC), `kept` the age at which retention may expire it.
    `as_good` are kinds of the same store that satisfy the schedule in its place.
    """

    store: Store
    kind: Kind
    cron: str
    every: timedelta
    kept: timedelta
    description: str
    why_then: str
    as_good: tuple[Kind, ...] = ()

    @property
    def within(self) -> timedelta:
        """How old the newest may be."""
        return self.every + GRACE

    @property
    def base(self) -> Literal["full", "incremental"]:
        """What an engine that knows only these two is asked for."""
        return "incremental" if self.kind == "incremental" else "full"

    @property
    def job(self) -> str:
        """The name of its job, and of its schedule."""
        return f"{self.store}_{self.kind}_backup"

    @property
    def command(self) -> str:
        """What does the same from a shell."""
        return f"bilten backup create {self.store} --kind {self.kind}"


PLANNED = (
    Planned(
        "postgres",
        "full",
        "0 2 * * *",
        timedelta(days=1),
        timedelta(days=30),
        "The newest full backup of PostgreSQL in the repository: pg_basebackup's stream in encrypted slices,"
        " with a signed manifest that is written last.",
        "Every night, before the restore drill.",
    ),
    Planned(
        "postgres",
        "incremental",
        "0 */4 * * *",
        timedelta(hours=4),
        timedelta(days=7),
        "What changed in PostgreSQL since the newest full backup; a full one where that cannot be, and why.",
        "So that a restore replays the WAL of hours and not of a day.",
        as_good=("full",),
    ),
    Planned(
        "postgres",
        "logical",
        "45 2 * * 0",
        timedelta(days=7),
        timedelta(days=30),
        "pg_dump of the operational database and of Dagster's, with roles and the rows of each table: a table"
        " restores alone, and onto a newer version of PostgreSQL.",
        "On Sundays, after the full backup.",
    ),
    Planned(
        "redis",
        "full",
        "0 */6 * * *",
        timedelta(hours=6),
        timedelta(days=3),
        "The newest backup of Redis in the repository: a snapshot of all databases (RDB), checked by"
        " redis-check-rdb, its keys counted.",
        "Sessions and counters are worth hours: older ones mislead more than they help.",
    ),
    Planned(
        "clickhouse",
        "full",
        "0 3 * * 0",
        timedelta(days=7),
        timedelta(days=90),
        "The newest full backup of ClickHouse in the repository: its own BACKUP to an encrypted disk over the"
        " bucket; the SHA-256 of every object is in a signed manifest that is written last.",
        "Sundays, before the metrics are built.",
    ),
    Planned(
        "clickhouse",
        "incremental",
        "0 3 * * 1-6",
        timedelta(days=2),
        timedelta(days=90),
        "What changed in ClickHouse since the newest full backup; a full one where that cannot be, and why.",
        "Every other night, before the metrics are built.",
        as_good=("full",),
    ),
)


def kinds_of(store: str) -> tuple[Kind, ...]:
    """The kinds that are taken of a store, the usual one first; none of an unknown store."""
    return tuple(planned.kind for planned in PLANNED if planned.store == store)


def stores() -> tuple[Store, ...]:
    return tuple(dict.fromkeys(planned.store for planned in PLANNED))


def find(store: str, kind: str | None) -> Planned:
    """The row of a store and kind (None: the usual one). Raises UsageError, which says what there is."""
    if not (kinds := kinds_of(store)):
        raise UsageError(f"no backups of {store!r} are taken", expected=_said(stores()), found=store)
    wanted = kinds[0] if kind is None else kind
    for planned in PLANNED:
        if (planned.store, planned.kind) == (store, wanted):
            return planned
    raise UsageError(f"no {kind!r} backups of {store} are taken", expected=_said(kinds), found=str(kind))


def _said(names: Iterable[str]) -> str:
    return " or ".join(names)
