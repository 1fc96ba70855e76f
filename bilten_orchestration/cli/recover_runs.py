"""`bilten recover runs`."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.recovery.dagster_runs import RunsReport


def runs(
    execute: Annotated[
        bool, typer.Option("--execute", help="Cancel them; without it they are only listed.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Dagster's runs that a restored PostgreSQL calls unfinished, and that no process serves any more.

    Those from before the newest restore (system.restores). `recover site` does it by itself; this is for a
    server of your own, before Dagster starts on it.
    """
    with output.errors("recover runs", as_json=as_json):
        from bilten_orchestration.recovery import dagster_runs
        from bilten_orchestration.settings.loading import load_settings

        report = dagster_runs.recover(load_settings(), execute=execute, progress=output.say)
        output.finish("recover runs", report, as_json=as_json, human=lambda: _show(report))


def _show(report: RunsReport) -> None:
    if report.restored_at is None:
        print("nothing was ever restored here: no run is from before it")
        return
    print(f"restored {report.restored_at.astimezone(UTC):%F %T} UTC")
    for run in report.runs:
        print(f"{run.run_id}  {run.created_at:%F %T}  {run.status:<11} {run.job}"[:80])
    if not report.runs:
        print("no run from before it is unfinished")
    elif report.executed:
        print(f"{len(report.runs)} runs canceled")
    else:
        print(f"{len(report.runs)} runs would be canceled; --execute does it")
