"""Take one backup: the one door for Dagster and the command line."""

from __future__ import annotations

from bilten_orchestration.backups import plan
from bilten_orchestration.backups.report import BackupReport
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings


def create(
    settings: Settings,
    store: str,
    kind: str | None = None,
    *,
    run: str | None = None,
    progress: Progress = silent,
) -> BackupReport:
    """A backup of that store and kind (None: the usual one). `run` is Dagster's, if it is one of its runs.

    Raises UsageError for what is not planned, and what the store's own module raises.
    """
    planned = plan.find(store, kind)
    # an engine is imported where its store is asked for: none needs the libraries of the others
    match planned.store:
        case "postgres" if planned.kind == "logical":
            from bilten_orchestration.backups.postgres import logical

            return logical.take(settings, run=run, progress=progress)
        case "postgres":
            from bilten_orchestration.backups.postgres import base as of_postgres

            return of_postgres.take(settings, planned.base, run=run, progress=progress)
        case "clickhouse":
            from bilten_orchestration.backups.clickhouse import base as of_clickhouse

            return of_clickhouse.take(settings, planned.base, run=run, progress=progress)
        case "redis":
            from bilten_orchestration.backups.redis import dump

            return dump.take(settings, run=run, progress=progress)
