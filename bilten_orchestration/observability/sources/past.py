"""What the page draws, from PostgreSQL and ClickHouse: sizes and mart days of the last 30 days. Read seldom:
it is a picture, and no promise hangs on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.history import DAYS, Level, last_days
from bilten_orchestration.observability.installed import Installed
from bilten_orchestration.observability.sources import bounded, days
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.driver_errors import translated

_SECONDS = 30.0

_SIZES = """
    select distinct on (1, 2) database_name, (sampled_at at time zone 'UTC')::date as day, database_bytes
    from system.database_samples where sampled_at >= %s
    order by 1, 2, sampled_at desc
"""
# an hour may have been written twice: the newest row holds
_FIGURES = """
    select subject, toDate(hour) as day, toInt64(argMax(value, (hour, measured_at)))
    from analytics.platform_figures
    where store = 'clickhouse' and figure = 'size_bytes' and hour >= {since:DateTime('UTC')}
    group by subject, day order by subject, day
"""


@dataclass(frozen=True, slots=True)
class PostgresSizes:
    """From the samples that the watchdog's look at statements leaves."""

    settings: Settings
    name: str = "past/postgres"
    interval_seconds: float = 600
    needs: tuple[str, ...] = ("store/postgres",)

    def read(self) -> Reading:
        since = datetime.now(UTC) - timedelta(days=DAYS)
        with bounded.connected(self.settings, "the look at sizes", seconds=_SECONDS) as connection:
            rows = connection.execute(_SIZES, (since,)).fetchall()
        return Reading(levels=tuple(Level(f"postgres/{name}", day, int(size)) for name, day, size in rows))

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


@dataclass(frozen=True, slots=True)
class ClickHouseDays:
    """Days of the marts, and sizes from the hourly figures."""

    settings: Settings
    installed: Callable[[], Installed]
    name: str = "past/clickhouse"
    interval_seconds: float = 600
    needs: tuple[str, ...] = ("store/clickhouse",)

    def read(self) -> Reading:
        from bilten_orchestration.metrics import freshness, verdicts
        from bilten_orchestration.stores import clickhouse

        now = datetime.now(UTC)
        quick = self.settings.clickhouse.model_copy(
            update={"connect_timeout_seconds": 5, "query_timeout_seconds": int(_SECONDS)}
        )
        marts = freshness.daily_marts()
        with translated("the look at the past"), closing(clickhouse.connect(quick)) as client:
            states = verdicts.mart_days(client, marts, days=last_days(now))
            rows = client.query(_FIGURES, parameters={"since": now - timedelta(days=DAYS)}).result_rows
        return Reading(
            cells=tuple(days.of_marts(marts, states, self.installed(), now)),
            levels=tuple(Level(f"clickhouse/{name}", day, int(size)) for name, day, size in rows),
        )

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None
