"""The other stores follow, and are proven equal: the end of every recovery.

    1  sync          what changed goes to ClickHouse; after a restore of a whole server as another epoch
    2  marts         published days whose facts changed are built again
    3  reconcile     every row of every synced table is compared in one snapshot
    4  search        follows by marks, or as another epoch; every document is compared (search/settled.py)

Each can be repeated; a kill leaves what the one before left.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Problem
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from bilten_orchestration.search.settled import SearchSettled


@dataclass(frozen=True, slots=True)
class SettledReport:
    """`equal` when every row of every synced table was equal in batch `batch`; `days` were touched, `built`
    are those that were built again (None: left to the sensor). `search` is None where it is off."""

    batch: int
    rows: int
    equal: bool
    days: tuple[date, ...]
    built: tuple[date, ...] | None
    search: SearchSettled | None
    problems: tuple[Problem, ...]


def settle(settings: Settings, *, accept_epoch: bool, rebuild: bool, progress: Progress) -> SettledReport:
    """Differences and refused days are in the report. Raises as the sync and the build do."""
    from bilten_orchestration.ingestion import sync as ingestion
    from bilten_orchestration.metrics.build import build_dirty
    from bilten_orchestration.search import settled as search

    batch = ingestion.sync(settings, accept_epoch=accept_epoch, progress=progress)
    built: tuple[date, ...] | None = None
    problems: list[Problem] = []
    if rebuild:
        report = build_dirty(settings, progress=progress)
        built = ()
        if report is not None:
            built = tuple(sorted({day.date for day in report.days}))
            problems += report.problems
    compared = ingestion.reconcile(settings, progress=progress)
    problems += [
        Problem(
            f"{table.table} differs between PostgreSQL and ClickHouse",
            expected=f"{table.rows_postgres} rows",
            found=f"{table.rows_clickhouse} rows: {table.missing} missing, {table.extra} too many,"
            f" {table.changed} changed",
            next="bilten sync --full reads every row again; then the same command again",
        )
        for table in compared.tables
        if not table.equal
    ]
    found = search.settle(settings, accept_epoch=accept_epoch, progress=progress)
    if found is not None:
        problems += found.problems
    return SettledReport(
        compared.batch,
        sum(table.rows_postgres for table in compared.tables),
        compared.equal,
        tuple(sorted(batch.touched_days)),
        built,
        found,
        tuple(problems),
    )
