"""`bilten runs prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.observability.runs.prune import PruneReport

_SHOWN = 20


def register(app: typer.Typer) -> None:
    runs = typer.Typer(help="Runs of Dagster that are over.", no_args_is_help=True)
    runs.callback()(lambda: None)  # one command in a group stays a command of the group
    runs.command("prune")(prune)
    app.add_typer(runs, name="runs")


def prune(
    execute: Annotated[
        bool, typer.Option("--execute", help="Remove them; without it they are only counted and shown.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Old runs with their events and logs: those that ended more than BILTEN_DAGSTER__KEEP_RUNS_DAYS ago.

    What is the newest of an asset, a partition or a check stays, and what a backup, a drill, an ended
    partition or a search index names. Dagster does the same every day.
    """
    with output.errors("runs prune", as_json=as_json):
        from bilten_orchestration.observability.runs.prune import prune as engine
        from bilten_orchestration.settings.loading import load_settings

        report = engine(load_settings(), execute=execute, progress=output.say)
        output.finish("runs prune", report, as_json=as_json, human=lambda: _show(report))


def _show(report: PruneReport) -> None:
    if report.cutoff is None:
        print("Dagster has no storage yet")
        return
    for run in report.going[:_SHOWN]:
        print(f"{run.run_id}  {run.updated_at:%F %T}  {run.status:<8} {run.job}"[:80])
    if len(report.going) > _SHOWN:
        print(f"and {len(report.going) - _SHOWN:,} more")
    print(f"{report.runs:,} runs, {report.young:,} of them changed since {report.cutoff:%F}")
    for reason, count in sorted(report.kept.items()):
        print(f"{count:,} older ones stay: {reason}")
    print(
        f"{len(report.going):,} runs with {report.events:,} events "
        + ("were removed" if report.executed else "would be removed; --execute does it")
    )
    if report.left_over:
        print(f"{report.left_over:,} more wait for the next call (BILTEN_DAGSTER__PRUNE_RUNS)")
