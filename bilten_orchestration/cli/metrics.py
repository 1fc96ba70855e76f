"""`bilten metrics build` and `bilten explain`."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.metrics.explain import Explanation
    from bilten_orchestration.metrics.report import BuildReport


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a date such as 2026-01-31, found {text!r}") from None


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter(f"expected a UUID, found {text!r}") from None


def register(app: typer.Typer) -> None:
    metrics = typer.Typer(help="The daily metrics.", no_args_is_help=True)
    metrics.command("build")(build)
    app.add_typer(metrics, name="metrics")
    app.command("explain")(explain)


def build(
    from_: Annotated[
        date | None, typer.Option("--from", parser=_day, metavar="DATE", help="First local day.")
    ] = None,
    to: Annotated[
        date | None, typer.Option("--to", parser=_day, metavar="DATE", help="Last local day, included.")
    ] = None,
    dirty: Annotated[
        bool,
        typer.Option(
            "--dirty", help="Only days whose facts changed since they were built, with their reach."
        ),
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Build days of all daily marts, gate them, and publish those that pass.

    Exits 1 when a day was refused or a test failed: refused days still show the build before.
    Started again after a kill, the same range goes on where it was.
    """
    with output.errors("metrics build", as_json=as_json):
        from bilten_orchestration.errors import UsageError
        from bilten_orchestration.metrics.build import build as build_range
        from bilten_orchestration.metrics.build import build_dirty
        from bilten_orchestration.settings.loading import load_settings

        settings = load_settings()
        if dirty:
            report = build_dirty(settings, first=from_, last=to, progress=output.say)
        elif from_ is not None and to is not None:
            report = build_range(settings, from_, to, progress=output.say)
        else:
            raise UsageError(
                "which days?",
                expected="--from DATE --to DATE, or --dirty",
                found="half a range" if from_ or to else "none",
                next="bilten metrics build --from 2026-01-01 --to 2026-01-31",
            )
        output.finish(
            "metrics build",
            report if report is not None else {"days": []},
            as_json=as_json,
            problems=report.problems if report is not None else (),
            human=lambda: _show_build(report),
        )


def explain(
    day: Annotated[date, typer.Argument(parser=_day, metavar="DAY", help="Local day, such as 2026-01-31.")],
    event: Annotated[UUID, typer.Argument(parser=_uuid, metavar="EVENT", help="Id of the event.")],
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="Such as gross_sales or tickets_sold.")],
    currency: Annotated[str | None, typer.Option(help="Where an event has several on that day.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many rows; all are added up.")] = 1000,
    as_json: output.Json = False,
) -> None:
    """Show what makes up a cell: its postings and the rows in PostgreSQL, added up.

    Exits 1 when the mart, the postings and PostgreSQL do not agree to the last digit.
    """
    with output.errors("explain", as_json=as_json):
        from bilten_orchestration.metrics.explain import explain as explain_cell
        from bilten_orchestration.settings.loading import load_settings
        from bilten_orchestration.stores.driver_errors import translated

        settings = load_settings()
        with translated("the explanation"):
            explanation = explain_cell(settings, day, event, metric, currency=currency, limit=limit)
        output.finish(
            "explain",
            explanation,
            as_json=as_json,
            problems=explanation.problems,
            human=lambda: _show_explanation(explanation),
        )


def _show_build(report: BuildReport | None) -> None:
    if report is None:
        print("no day is dirty")
        return
    print(
        f"build {report.build_id}: batch {report.batch}, as of {report.as_of:%F %T} UTC,"
        f" {report.seconds:.1f} s" + (", gone on with after a kill" if report.resumed else "")
    )
    for mart in sorted({day.mart for day in report.days}):
        days = [day for day in report.days if day.mart == mart]
        counts = Counter(day.verdict for day in days)
        restated = sum(day.restated for day in days)
        print(
            f"  {mart:<34} {', '.join(f'{count} {verdict}' for verdict, count in counts.items())};"
            f" {sum(day.rows for day in days)} rows"
            + (f", {restated} published cells restated" if restated else "")
        )
    if report.unsettled_days:
        print(
            f"  closed days that stay provisional: {len(report.unsettled_days)}; a transaction that was open"
            f"\n  at {report.settled_until:%F %T} UTC had not ended at the sync, which names it"
        )
    if report.still_dirty:
        print(
            f"  days that stay dirty (refused, or reaching into days not built): {len(report.still_dirty)};"
            " bilten metrics build --dirty"
        )


def _show_explanation(explanation: Explanation) -> None:
    cell = explanation.cell
    built = (
        f"batch {cell.batch}, as of {cell.as_of:%F %T} UTC, {cell.verdict}" if cell.as_of else "never built"
    )
    print(f"{cell.mart}.{cell.metric} on {cell.day}")
    print(f"event {cell.event_id}:")
    print(f"{cell.value:f} {cell.currency} ({built})")
    for title, facts, count, total in (
        (
            "postings in ClickHouse",
            explanation.postings,
            explanation.postings_count,
            explanation.postings_sum,
        ),
        ("rows", explanation.rows, explanation.rows_count, explanation.sum),
    ):
        print(f"\n{title}:")
        for fact in facts:
            print(f"  {fact.at:%F %T} UTC  {fact.kind:<22} {fact.value:>24f}")
            print(f"      {fact.table} {fact.id}")
        if count > len(facts):
            print(f"  and {count - len(facts)} more")
        print(f"  {count} in all, sum {total:f} {cell.currency}")
    print("\nequal" if explanation.equal else "\nNOT equal")
