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
    match planned.store, planned.kind:
        case "postgres", ("full" | "incremental") as kind_of_base:
            from bilten_orchestration.backups.postgres.base import take

            return take(settings, kind_of_base, run=run, progress=progress)
        case "postgres", "logical":
            from bilten_orchestration.backups.postgres import logical

            return logical.take(settings, run=run, progress=progress)
        case "redis", _:
            from bilten_orchestration.backups.redis.dump import take as dump

            return dump(settings, run=run, progress=progress)
        case "clickhouse", ("full" | "incremental") as kind_of_clickhouse:
            from bilten_orchestration.backups.clickhouse.base import take as take_clickhouse

            return take_clickhouse(settings, kind_of_clickhouse, run=run, progress=progress)
    raise NotImplementedError(f"{planned.store} {planned.kind} is planned and has no engine")
