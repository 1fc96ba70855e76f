"""`bilten demo load|traffic`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.demo.load import LoadReport
    from bilten_orchestration.demo.traffic import TrafficReport


def register(app: typer.Typer) -> None:
    demo = typer.Typer(help="Data that looks like the trade, and traffic on top of it.", no_args_is_help=True)
    demo.command("load")(load)
    demo.command("traffic")(traffic)
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
        from bilten_orchestration.demo.parts import PARTS
        from bilten_orchestration.settings.loading import load_settings

        report = engine.load(
            load_settings(),
            seed=seed,
            scale=scale,
            today=today.date() if today else None,
            parts=() if operational_only else PARTS,
            progress=output.say,
        )
        output.finish("demo load", report, as_json=as_json, human=lambda: _show(report))


def traffic(
    rate: Annotated[float, typer.Option("--rate", help="Changes a second.")],
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="Default: until interrupted.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which changes are chosen.")] = 7,
    as_json: output.Json = False,
) -> None:
    """Keep living changes going: purchases, edits, refunds, disputes, check-ins, transfers, page views.

    Ends with the totals on SIGINT and SIGTERM. Exits 1 when the database refused a change.
    """
    with output.errors("demo traffic", as_json=as_json):
        import signal
        import threading

        from bilten_orchestration.demo import traffic as engine
        from bilten_orchestration.settings.loading import load_settings

        stop = threading.Event()
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stop.set())
        report = engine.run(
            load_settings(), rate_per_second=rate, seconds=seconds, seed=seed, progress=output.say, stop=stop
        )
        output.finish(
            "demo traffic",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_traffic(report),
        )


def _show_traffic(report: TrafficReport) -> None:
    for name, count in report.done.items():
        print(
            f"{count:>9,}  {name}"
            + (f" ({n:,} without effect)" if (n := report.nothing_to_do.get(name)) else "")
        )
    print(
        f"{report.clicks_written:>9,}  clicks, {report.clicks_rejected:,} refused as malformed,"
        f" {report.clicks_lost:,} lost; {report.counters_lost:,} views not counted by Redis"
    )
    print(
        f"{report.achieved_per_second:g} changes a second of {report.rate_per_second:g}"
        f" over {report.seconds:.0f} s; greatest lag {report.greatest_lag_seconds:.2f} s\n"
        f"{report.retried} retried, {report.dropped} dropped, {report.reconnects} reconnects"
    )


def _show(report: LoadReport) -> None:
    for table, rows in report.rows.items():
        print(f"{rows:>12,}  {table}")
    for phase in report.phases:
        print(
            f"{phase.rows:>12,}  {phase.name}: {'done before' if phase.skipped else f'{phase.seconds:.1f} s'}"
        )
    print(f"{len(report.rules)} rules hold; digest {report.digest[:16]}; {report.seconds:.1f} s")
