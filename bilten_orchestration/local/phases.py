"""The phases of `up` that fill the databases. Each returns what it did in a few words, and whether it
changed anything; each finds out by itself whether there is something to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bilten_orchestration.local.addresses import Webserver
from bilten_orchestration.local.runs import run_job
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

METRIC_DAYS = 30
Outcome = tuple[str, bool]


def migrate(settings: Settings, progress: Progress) -> Outcome:
    """Both databases, then the months of partitioned tables."""
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.partitions.postgres import premake

    steps = len(runner.up(settings, progress=progress).steps)
    months = sum(len(made) for made in premake.premake(settings, progress=progress).made.values())
    if not steps and not months:
        return "schema is up to date", False
    return f"{steps} migrations applied, {months} months made", True


def demo(settings: Settings, *, scale: float, today: date | None, progress: Progress) -> Outcome:
    """Only into a database without users and events, or to finish a load that was killed (the loader
    keeps in system.demo_loads what is done, and by which plan)."""
    plan = _demo_plan(settings)
    if plan is None and _exists(settings, "select from users.users union all select from events.events"):
        return "the database holds data already", False
    from bilten_orchestration.demo.load import load

    if plan is None:
        report = load(settings, scale=scale, today=today, progress=progress)
    else:
        report = load(settings, seed=plan[0], scale=plan[1], progress=progress)
    changed = not all(phase.skipped for phase in report.phases)
    return f"{'loaded' if changed else 'stands'} at scale {report.scale:g}, up to {report.today}", changed


def sync(settings: Settings, web: Webserver, *, needed: bool, progress: Progress) -> Outcome:
    """When rows came or days are missing, when nothing was ever synced, or to finish a killed batch.
    Otherwise Dagster's schedule does it."""
    if not needed and _exists(
        settings,
        "select from system.sync_state"
        " where consumer = 'clickhouse' and batch > 0 and applying_batch is null",
    ):
        return "synced before; the schedule goes on", False
    run_job(web, "ingestion", progress)
    return "ClickHouse holds what PostgreSQL holds", True


def missing_days(settings: Settings, today: date | None) -> tuple[date, date] | None:
    """First and last of the 30 days before `today` (UTC) for which not every mart has a verdict; none where
    there is no event yet, so that nothing could be counted."""
    from bilten_orchestration.stores.clickhouse import connect

    if not _exists(settings, "select from events.events"):
        return None
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


def metrics(days: tuple[date, date] | None, web: Webserver, unfinished: Path, progress: Progress) -> Outcome:
    """Build the days that are missing, and what is built as a whole after them.

    The file `unfinished` is there from before the build until its good end: days have verdicts of their
    own, but that dimensions and reports were built is written nowhere else. Raises Mismatch when a day
    was refused; the others are published.
    """
    if days is None and not unfinished.exists():
        return f"none of the last {METRIC_DAYS} days is missing", False
    last = datetime.now(UTC).date() - timedelta(days=1)
    first, last = days or (last, last)
    unfinished.touch(mode=0o600)
    run_job(web, "metrics_provisional", progress, days=(first, last))
    unfinished.unlink()
    return f"built {first} to {last}", True


def search(settings: Settings, web: Webserver, progress: Progress) -> Outcome:
    """The first index, where there is none; Dagster's schedules follow it from then on."""
    from bilten_orchestration.errors import Refused
    from bilten_orchestration.search import mapping, popularity
    from bilten_orchestration.stores import opensearch

    if not settings.opensearch.enabled:
        return opensearch.off(settings.opensearch).what, False
    found = mapping.examine(settings)
    if found.index is not None:
        return f"{found.index} serves; the schedule goes on", False
    counted = "with popularity"
    try:
        popularity.count(settings, progress=progress)
    except Refused:
        counted = "without popularity: not all of the last 30 days are published"
    run_job(web, "search_rebuild", progress)
    return f"the first index serves, {counted}", True


def _demo_plan(settings: Settings) -> tuple[int, float] | None:
    """Seed and scale of the demo load that is in the database."""
    from bilten_orchestration.stores.postgres import connect

    with connect(settings.postgres, application_name="bilten up") as connection:
        known = connection.execute("select to_regclass('system.demo_loads') is not null").fetchone()
        if known is None or not known[0]:
            return None
        row = connection.execute("select seed, scale from system.demo_loads").fetchone()
    return (int(row[0]), float(row[1])) if row else None


def _exists(settings: Settings, query: str) -> bool:
    from bilten_orchestration.stores.postgres import connect

    with connect(settings.postgres, application_name="bilten up") as connection:
        row = connection.execute(f"select exists ({query})".encode()).fetchone()
    return row is not None and bool(row[0])
