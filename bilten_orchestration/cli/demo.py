"""`bilten demo load|traffic`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.demo.load import LoadReport


def register(app: typer.Typer) -> None:
    demo = typer.Typer(help="Data that looks like the trade, and traffic on top of it.", no_args_is_help=True)
    demo.command("load")(load)
    app.add_typer(demo, name="demo")


def load(
    scale: Annotated[
        float, typer.Option("--scale", help="1: 1,500 events, 120,000 payments, 3 million clicks.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, scale and day: the same rows.")] = 7,
    today: Annotated[
        datetime | None,
        typer.Option(
            "--today", formats=["%Y-%m-%d"], help="UTC day that the data ends before; default: today."
        ),
    ] = None,
    operational_only: Annotated[
        bool,
        typer.Option(
            "--operational-only", help="PostgreSQL alone; without it the same command adds the rest."
        ),
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Fill an empty, migrated database; the same command again finishes a load that was interrupted."""
    with output.errors("demo load", as_json=as_json):
        from bilten_orchestration.demo import load as engine
        from bilten_orchestration.settings import load_settings

        report = engine.load(
            load_settings(),
            seed=seed,
            scale=scale,
            today=today.date() if today else None,
            parts=() if operational_only else engine.PARTS,
            progress=output.say,
        )
        output.finish("demo load", report, as_json=as_json, human=lambda: _show(report))


def _show(report: LoadReport) -> None:
    for table, rows in report.rows.items():
        print(f"{rows:>12,}  {table}")
    for phase in report.phases:
        print(
            f"{phase.rows:>12,}  {phase.name}: {'done before' if phase.skipped else f'{phase.seconds:.1f} s'}"
        )
    print(f"{len(report.rules)} rules hold; digest {report.digest[:16]}; {report.seconds:.1f} s")
