"""Dagster's runs that nobody serves: a restored storage calls them queued or started, and their processes are
of another past.

A daemon that finds them would start the queued ones, would take the others for crashed and try them again,
and they would hold their pools. So they are canceled before it runs, through Dagster's own instance, with an
event in each run that says why. What they were to do is planned anew: by schedules, sensors, or by who reads
it.

    cancel   all that is unfinished: for a server that nobody else reaches yet
    recover  those from before the newest restore (system.restores): of a server that was restored by hand,
             and may be at work again

What a kill leaves: runs that are canceled, and others that are not yet; one may have its event and not its
status, and gets both by the next call. A run that has ended is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bilten_orchestration.local import dagster_instance
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from dagster import DagsterInstance, RunRecord


@dataclass(frozen=True, slots=True)
class Unserved:
    """A run that is not at its end, and that no process serves; `created_at` in UTC."""

    run_id: str
    job: str
    status: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RunsReport:
    """`restored_at` is the newest restore (UTC), None when there was none: then no run is from before it."""

    restored_at: datetime | None
    runs: tuple[Unserved, ...]
    executed: bool


def recover(settings: Settings, *, execute: bool = False, progress: Progress = silent) -> RunsReport:
    """Runs from before the newest restore; canceled with `execute`.

    Raises StoreUnavailable and AccessRefused.
    """
    with (
        translated("the look for restores"),
        postgres.connect(settings.postgres, application_name="bilten recover", autocommit=True) as connection,
    ):
        row = connection.execute(
            "select restored_at, reason from system.restores order by restored_at desc limit 1"
        ).fetchone()
    if row is None:
        return RunsReport(None, (), execute)
    restored_at, reason = row
    if execute:
        return RunsReport(restored_at, cancel(settings, reason, progress, before=restored_at), True)
    with dagster_instance.opened(settings, "bilten recover") as instance:
        found = () if instance is None else _unfinished(instance, restored_at)
    return RunsReport(restored_at, tuple(_told(record) for record in found), False)


def cancel(
    settings: Settings, why: str, progress: Progress = silent, *, before: datetime | None = None
) -> tuple[Unserved, ...]:
    """Cancel what is unfinished (and was made `before`): these. `why` stands in each of them."""
    with dagster_instance.opened(settings, "bilten recover") as instance:
        found = () if instance is None else _unfinished(instance, before)
        for record in found:
            assert instance is not None  # noqa: S101
            run = record.dagster_run
            said = (
                f"PostgreSQL, and Dagster's storage with it, was restored ({why}): no process serves this run"
                " any more, so it was canceled."
            )
            instance.report_engine_event(said, run)
            instance.report_run_canceled(run, said)
        if found:
            progress(f"Dagster: {len(found)} runs that nobody serves any more were canceled")
        return tuple(_told(record) for record in found)


def _unfinished(instance: DagsterInstance, before: datetime | None) -> tuple[RunRecord, ...]:
    from dagster import DagsterRunStatus, RunsFilter

    ended = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
    alive = [status for status in DagsterRunStatus if status not in ended]
    found = instance.get_run_records(RunsFilter(statuses=alive, created_before=before), ascending=True)
    return tuple(found)


def _told(record: RunRecord) -> Unserved:
    run = record.dagster_run
    return Unserved(run.run_id, run.job_name, run.status.value, record.create_timestamp.astimezone(UTC))
