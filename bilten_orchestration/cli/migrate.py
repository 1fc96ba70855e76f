"""`bilten migrate status|up|down`."""

from __future__ import annotations

from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.migrations.reports import MigrationReport, StatusReport


class StoreChoice(StrEnum):
    """The stores that have migrations."""

    postgres = "postgres"
    clickhouse = "clickhouse"


OneStore = Annotated[StoreChoice | None, typer.Option("--store", help="One store only; default: both.")]


def register(app: typer.Typer) -> None:
    migrate = typer.Typer(
        help="Schema of both databases: sql/postgres and sql/clickhouse.", no_args_is_help=True
    )
    migrate.command("status")(status)
    migrate.command("up")(up)
    migrate.command("down")(down)
    app.add_typer(migrate, name="migrate")


def status(as_json: output.Json = False) -> None:
    """Where every migration stands. Exits 1 when one failed, was interrupted, edited or lost."""
    with output.errors("migrate status", as_json=as_json):
        from bilten_orchestration.migrations import runner
        from bilten_orchestration.settings.loading import load_settings

        report = runner.status(load_settings())
        output.finish(
            "migrate status",
            {"migrations": report.migrations, "pending": report.pending},
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_status(report),
        )


def up(
    store: OneStore = None,
    to: Annotated[
        int | None, typer.Option("--to", min=1, help="Last version to apply; needs --store.")
    ] = None,
    anew: Annotated[
        bool,
        typer.Option("--anew", help="ClickHouse was lost: begin on an empty one; then bilten sync --full."),
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Apply what is pending."""
    with output.errors("migrate up", as_json=as_json):
        from bilten_orchestration.migrations import runner
        from bilten_orchestration.settings.loading import load_settings

        report = runner.up(
            load_settings(), store=store.value if store else None, target=to, anew=anew, progress=output.say
        )
        output.finish("migrate up", report, as_json=as_json, human=lambda: _show_steps(report))


def down(
    store: Annotated[StoreChoice, typer.Option("--store", help="The store to take back.")],
    to: Annotated[int, typer.Option("--to", min=0, help="Newest version that stays; 0: none.")],
    execute: Annotated[
        bool, typer.Option("--execute", help="Do it; without it only show what would run.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Take back everything above a version, with the data in it; without --execute only show it."""
    with output.errors("migrate down", as_json=as_json):
        from bilten_orchestration.migrations import runner
        from bilten_orchestration.settings.loading import load_settings

        report = runner.down(
            load_settings(), store=store.value, target=to, execute=execute, progress=output.say
        )
        output.finish("migrate down", report, as_json=as_json, human=lambda: _show_steps(report))


def _show_status(report: StatusReport) -> None:
    for store, rows in groupby(report.migrations, key=lambda row: row.store):
        print(store)
        for row in rows:
            at = row.completed_at or row.failed_at or row.started_at
            when = f"{at:%F %T}" if at else "-"
            print(f"  V{row.version:04d}  {row.state:<11}  {when:<19}  {row.name}")
    print(f"{report.pending} pending: bilten migrate up" if report.pending else "nothing pending")


def _show_steps(report: MigrationReport) -> None:
    if not report.steps:
        print("nothing to do")
    for step in report.steps:
        label = f"{step.store} V{step.version:04d} {step.name}"
        if report.executed:
            print(f"{label}: {step.direction}, {step.statements} statements, {step.seconds:.1f} s")
        else:
            print(f"{label}: would run")
            for statement in step.preview:
                print(f"    {statement}")
            for table, rows in step.rows_lost.items():
                if rows:
                    print(f"    destroys {rows:,} rows of {table}")
    if report.steps and not report.executed:
        print("nothing was changed; add --execute to do it")
