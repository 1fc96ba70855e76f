"""The phases of `up` that fill the databases. Each returns what it did in a few words, and whether it
changed anything; each finds out by itself whether there is something to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

METRIC_DAYS = 30
Outcome = tuple[str, bool]


def migrate(settings: Settings, progress: Progress) -> Outcome:
    """Both databases, then the months of partitioned tables."""
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.partitions import premake

    steps = len(runner.up(settings, progress=progress).steps)
    months = sum(len(made) for made in premake.premake(settings, progress=progress).made.values())
    if not steps and not months:
        return "schema is up to date", False
    return f"{steps} migrations applied, {months} months made", True


def demo(settings: Settings, begun: Path, *, scale: float, today: date | None, progress: Progress) -> Outcome:
    """Only into a database without organizations, or to go on where a load was killed: the file `begun`
    is there from before its first row until after its last."""
    if not begun.exists() and _exists(settings, "select from users.organizations"):
        return "the database holds data already", False
    from bilten_orchestration.demo.load import load

    begun.touch(mode=0o600)
    load(settings, scale=scale, today=today, progress=progress)
    begun.unlink()
    return f"loaded at scale {scale:g}", True


def sync(settings: Settings, *, needed: bool, progress: Progress) -> Outcome:
    """When rows came or days are missing, when nothing was ever synced, or to finish a killed batch.
    Otherwise Dagster's schedule does it."""
    if not needed and _exists(
        settings,
        "select from system.sync_state"
        " where consumer = 'clickhouse' and batch > 0 and applying_batch is null",
    ):
        return "synced before; the schedule goes on", False
    from bilten_orchestration.ingestion.sync import sync as run

    run(settings, progress=progress)
    return "ClickHouse holds what PostgreSQL holds", True


def missing_days(settings: Settings, today: date | None) -> tuple[date, date] | None:
    """First and last of the 30 days before `today` (UTC) for which not every mart has a verdict."""
    from bilten_orchestration.stores.clickhouse import connect

    last = (today or datetime.now(UTC).date()) - timedelta(days=1)
    first = last - timedelta(days=METRIC_DAYS - 1)
    client = connect(settings.clickhouse)
    try:
        rows = client.query(
            "select toString(day), uniqExact(mart) from analytics.mart_days final"
            " where day between {first:Date32} and {last:Date32} group by day",
            parameters={"first": first, "last": last},
        ).result_rows
    finally:
        client.close()
    marts: Mapping[str, int] = {day: count for day, count in rows}
    every = max(marts.values(), default=0)
    missing = [
        day
        for number in range(METRIC_DAYS)
        if marts.get(str(day := first + timedelta(days=number)), 0) < max(every, 1)
    ]
    return (missing[0], missing[-1]) if missing else None


def metrics(settings: Settings, days: tuple[date, date] | None, progress: Progress) -> Outcome:
    """Build the days that are missing."""
    if days is None:
        return f"the last {METRIC_DAYS} days are built", False
    from bilten_orchestration.metrics.build import build

    build(settings, *days, progress=progress)
    return f"built {days[0]} to {days[1]}", True


def _exists(settings: Settings, query: str) -> bool:
    from bilten_orchestration.stores.postgres import connect

    with connect(settings.postgres, application_name="bilten up") as connection:
        row = connection.execute(f"select exists ({query})".encode()).fetchone()
    return row is not None and bool(row[0])
