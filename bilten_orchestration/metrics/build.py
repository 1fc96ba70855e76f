"""Builds days of the daily marts by dbt, from the command line, `up`, or a drill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

from bilten_orchestration.errors import UsageError
from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics import dbt_call, dirty, evidence, late, manifest, verdicts, whole
from bilten_orchestration.metrics.opened import open_build
from bilten_orchestration.metrics.report import BuildReport
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated


def build(
    settings: Settings,
    first: date,
    last: date,
    *,
    run_id: str | None = None,
    progress: Progress = silent,
    refresh_whole: bool = True,
    now: datetime | None = None,
) -> BuildReport:
    """Build all daily marts for the days from `first` to `last`, both included; then models built as a whole.

    A report with `refusals` is a bad end: these days still show what was published before. Raises as
    `open_build` does, and Mismatch or TransientError when dbt broke off; then the same call goes on.
    """
    if last < first:
        raise UsageError("the range ends before it begins", expected=f"--to from {first} on", found=str(last))
    days = day_rules.span(first, last)
    return build_days(settings, days, run_id=run_id, progress=progress, refresh_whole=refresh_whole, now=now)


def build_dirty(
    settings: Settings,
    *,
    first: date | None = None,
    last: date | None = None,
    progress: Progress = silent,
    now: datetime | None = None,
) -> BuildReport | None:
    """Build the published days (all, or those within the bounds) whose facts or clicks have changed since.

    Returns None when there is none.
    """
    marts = manifest.daily_marts(settings, progress)
    with (
        translated("the look for dirty days"),
        postgres.connect(settings.postgres, "etl", autocommit=True) as connection,
    ):
        causes = dirty.dirty_days(connection)
        client = clickhouse.connect(settings.clickhouse)
        try:
            shown = verdicts.shown(client, marts)
            settled = evidence.newest(client).settled_until
        finally:
            client.close()
    days = [
        day
        for day in late.late_days(causes, shown, at=now or datetime.now(UTC), settled_until=settled)
        if (first is None or day >= first) and (last is None or day <= last)
    ]
    return build_days(settings, days, progress=progress, now=now) if days else None


def build_days(
    settings: Settings,
    days: Sequence[date],
    *,
    run_id: str | None = None,
    progress: Progress = silent,
    refresh_whole: bool = True,
    now: datetime | None = None,
) -> BuildReport:
    """As `build`, for any days."""
    with open_build(settings, days, run_id=run_id, progress=progress, now=now) as opened:
        if opened.pending:
            progress(
                f"build {opened.build_id}: {len(opened.pending)} days, {len(opened.marts)} marts,"
                f" batch {opened.batch.number}"
                + (" (goes on where it was interrupted)" if opened.start.resumed else "")
            )
            dbt_call.run(opened.call(), progress, watch=opened.watch)
        report = opened.close()
        counts = report.counts()
        progress(", ".join(f"{count} mart days {verdict}" for verdict, count in counts.items() if count))
        if refresh_whole:
            failed = whole.refresh(settings, opened.batch, progress, watch=opened.watch)
            report = replace(report, whole=tuple(failed))
    return report
