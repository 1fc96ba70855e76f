"""`bilten sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bilten_orchestration.errors import Problem
    from bilten_orchestration.ingestion.report import ReconcileReport, SyncReport


def register(app: typer.Typer) -> None:
    app.command("sync")(sync)


def sync(
    accept_epoch: Annotated[
        bool,
        typer.Option(
            "--accept-epoch",
            help="After a restore: bring ClickHouse to this PostgreSQL. Run it without this first, "
            "to see what would change.",
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Read every row again; remove what PostgreSQL does not have.")
    ] = False,
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Afterwards compare every row; exits 1 where any differs.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Bring what changed in PostgreSQL to ClickHouse, as one batch."""
    with output.errors("sync", as_json=as_json):
        from bilten_orchestration.ingestion import sync as engine
        from bilten_orchestration.settings.loading import load_settings

        report = engine.sync(
            load_settings(), accept_epoch=accept_epoch, full=full, reconcile=reconcile, progress=output.say
        )
        output.finish(
            "sync",
            report,
            as_json=as_json,
            problems=_problems(report.reconciliation),
            human=lambda: _show(report),
        )


def _problems(comparison: ReconcileReport | None) -> list[Problem]:
    from bilten_orchestration.errors import Problem

    if comparison is None:
        return []
    problems = [
        Problem(
            f"{table.table} differs between PostgreSQL and ClickHouse",
            expected=f"{table.rows_postgres} rows, sums {_sums(table.sums, 0)}",
            found=f"{table.rows_clickhouse} rows, sums {_sums(table.sums, 1)}: "
            f"{table.missing} missing, {table.extra} too many, {table.changed} changed",
            next="bilten sync --full reads every row again",
        )
        for table in comparison.tables
        if not table.equal
    ]
    problems += [
        Problem(f"{row.table} {row.key}: {row.state}", found=", ".join(row.columns))
        for row in comparison.sample
    ]
    return problems


def _sums(sums: Mapping[str, tuple[str, str]], side: int) -> str:
    return ", ".join(f"{name} {values[side]}" for name, values in sums.items()) or "none"


def _show(report: SyncReport) -> None:
    print(
        f"batch {report.batch}, {report.kind}, snapshot of {report.as_of:%F %T} UTC, {report.seconds:.1f} s"
    )
    names = sorted({*report.rows, *report.deletes})
    width = max(map(len, names), default=0)
    for name in names:
        print(
            f"  {name:<{width}}  {report.rows.get(name, 0):>10} rows  {report.deletes.get(name, 0):>6} "
            "deleted"
        )
    if not names:
        print("  nothing new")
    days = sorted(report.touched_days)
    if days:
        print(f"  {len(days)} local days touched, {days[0]} to {days[-1]}")
    if report.reconciliation is not None and report.reconciliation.equal:
        rows = sum(table.rows_postgres for table in report.reconciliation.tables)
        print(f"  equal: {rows} rows compared in {report.reconciliation.seconds:.1f} s")
