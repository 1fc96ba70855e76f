"""Key figures of the platform per hour, from samples in PostgreSQL to analytics.platform_figures.

What is rolled up: closed hours since the newest one that ClickHouse has (that one again, for a look may have
come late), as far back as samples are kept. A kill leaves either nothing or all of an hour's rows: they go in
one insert, and an hour that is written twice has equal numbers and is read once (the newest row of a key
holds). Sizes of ClickHouse are as they are now, for the newest hour alone: nobody knows those of the past.
What backups did is Dagster's to know, so the caller tells it (`Outcome`); this module imports no Dagster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

HOUR = timedelta(hours=1)
TABLE = "analytics.platform_figures"
COLUMNS = ("hour", "store", "subject", "figure", "value")

#: Of one hour and database, from its samples. Sums are of what was counted, gauges of all looks.
_SAMPLES = """
    select date_trunc('hour', sampled_at, 'UTC') as hour, database_name,
           coalesce(sum(calls), 0)::float8 as calls,
           coalesce(sum(total_milliseconds), 0)::float8 as total_milliseconds,
           coalesce(sum(shared_blocks_hit), 0)::float8 as shared_blocks_hit,
           coalesce(sum(shared_blocks_read), 0)::float8 as shared_blocks_read,
           avg(connections)::float8 as connections_mean,
           max(connections)::float8 as connections_max,
           min(connections_limit)::float8 as connections_limit,
           (array_agg(database_bytes order by sampled_at desc))[1]::float8 as size_bytes,
           count(*)::float8 as samples
    from system.database_samples
    where sampled_at >= %s and sampled_at < %s
    group by 1, 2 order by 1, 2
"""
NAMES = (
    "calls",
    "total_milliseconds",
    "shared_blocks_hit",
    "shared_blocks_read",
    "connections_mean",
    "connections_max",
    "connections_limit",
    "size_bytes",
    "samples",
)
_SIZES = """
    select database, sum(bytes_on_disk) from system.parts
    where active and database not in ('system', 'INFORMATION_SCHEMA', 'information_schema')
    group by database order by database
"""
Row = tuple[datetime, str, str, str, float]


@dataclass(frozen=True, slots=True)
class Span:
    """Closed hours to roll up: from the begin of the first one to the end of the last one (UTC)."""

    begin: datetime
    end: datetime

    @property
    def hours(self) -> int:
        return max(0, int((self.end - self.begin) / HOUR))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A backup run that ended; `ended_at` in UTC."""

    store: str
    ended_at: datetime
    succeeded: bool


@dataclass(frozen=True, slots=True)
class RollUpReport:
    """`newest_hour` is the last closed hour that the operational database has samples of; None: none in
    this span."""

    span: Span
    rows: int
    samples: int
    newest_hour: datetime | None
    backups: int
    backups_failed: int


def span(settings: Settings, now: datetime | None = None) -> Span:
    """What is to be rolled up. Raises StoreUnavailable, AccessRefused."""
    end = (now or datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)
    oldest = end - timedelta(days=settings.queries.day_totals_days)
    with _clickhouse(settings) as client, translated("reading key figures"):
        newest = client.query(
            f"select toUnixTimestamp(max(hour)) from {TABLE} where figure = 'samples'"
        ).result_rows[0][0]
    begin = datetime.fromtimestamp(newest, UTC) if newest else oldest
    return Span(max(oldest, min(begin, end - HOUR)), end)


def roll_up(
    settings: Settings, hours: Span, outcomes: Iterable[Outcome] = (), *, progress: Progress = silent
) -> RollUpReport:
    """Write the figures of these hours. Raises StoreUnavailable, AccessRefused, TransientError."""
    with (
        postgres.connect(
            settings.postgres, application_name="bilten key figures", autocommit=True
        ) as connection,
        translated("reading samples of the databases"),
    ):
        sampled = connection.execute(_SAMPLES, (hours.begin, hours.end)).fetchall()
    ended = [each for each in outcomes if hours.begin <= each.ended_at < hours.end]
    rows: list[Row] = [
        (hour, "postgres", database, name, value)
        for hour, database, *values in sampled
        for name, value in zip(NAMES, values, strict=True)
    ]
    rows += _backups(ended)
    with _clickhouse(settings) as client, translated("writing key figures"):
        rows += [
            (hours.end - HOUR, "clickhouse", database, "size_bytes", float(size))
            for database, size in client.query(_SIZES).result_rows
        ]
        client.insert(TABLE, rows, column_names=list(COLUMNS))
    progress(f"{len(rows)} figures of {hours.hours} hours")
    ours = [row for row in sampled if row[1] == settings.postgres.database]
    return RollUpReport(
        hours,
        len(rows),
        int(sum(row[-1] for row in ours)),
        max((row[0] for row in ours), default=None),
        len(ended),
        sum(1 for each in ended if not each.succeeded),
    )


def _backups(ended: Iterable[Outcome]) -> list[Row]:
    counts: dict[tuple[datetime, str], list[int]] = {}
    for each in ended:
        hour = each.ended_at.replace(minute=0, second=0, microsecond=0)
        count = counts.setdefault((hour, each.store), [0, 0])
        count[0] += 1
        count[1] += each.succeeded
    return [
        (hour, store, "", name, float(value))
        for (hour, store), count in sorted(counts.items())
        for name, value in zip(("backups", "backups_succeeded"), count, strict=True)
    ]


class _clickhouse:
    """A client that is closed at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> Client:
        from bilten_orchestration.stores.clickhouse import connect

        self._client = connect(self._settings.clickhouse)
        return self._client

    def __exit__(self, *_: object) -> None:
        self._client.close()
