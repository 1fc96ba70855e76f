"""`bilten queries collect|list` and `bilten advice`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.observability.queries.collect import LookReport
    from bilten_orchestration.observability.queries.listing import Listing

Hours = Annotated[int, typer.Option("--hours", help="Back from now.", min=1, max=2160)]


def register(app: typer.Typer) -> None:
    queries = typer.Typer(help="Slow statements, as the databases count them.", no_args_is_help=True)
    queries.command("collect")(collect)
    queries.command("list")(list_)
    app.add_typer(queries, name="queries")
    app.command("advice")(advice)


def collect(as_json: output.Json = False) -> None:
    """Look at pg_stat_statements once: what ran since the last look is counted, the slow is recorded.

    The watchdog does it every five minutes. Exits 1 when the server lacks what it needs, and says what.
    """
    with output.errors("queries collect", as_json=as_json):
        from bilten_orchestration.observability.queries.collect import collect as look
        from bilten_orchestration.settings.loading import load_settings

        report = look(load_settings(), progress=output.say)
        output.finish("queries collect", report, as_json=as_json, human=lambda: _show_look(report))


def _show_look(report: LookReport) -> None:
    for each in report.databases:
        print(
            f"{each.database}: {each.calls:,} calls of {each.statements:,} statements in"
            f" {each.total_milliseconds / 1000:,.1f} s, {each.slow} recorded"
            if each.since is not None
            else f"{each.database}: nothing counted yet ({each.basis})"
        )
    print(f"{report.plans} plans, {report.plans_refused} refused; {report.evictions} entries evicted")


def list_(hours: Hours = 24, as_json: output.Json = False) -> None:
    """Slow and heavy statements of both databases, those of ClickHouse that fail, and what became slower."""
    with output.errors("queries list", as_json=as_json):
        from bilten_orchestration.observability.queries.listing import list_queries
        from bilten_orchestration.settings.loading import load_settings

        found = list_queries(load_settings(), hours=hours)
        output.finish(
            "queries list",
            found,
            as_json=as_json,
            problems=found.problems,
            human=lambda: _show_listing(found),
        )


def _show_listing(found: Listing) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()

    def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        if rows:
            shown = Table(title=title, title_justify="left")
            for column in columns:
                shown.add_column(column, justify="left" if column == "statement" else "right")
            for row in rows:
                shown.add_row(*row)
            console.print(shown)

    table(
        "PostgreSQL",
        ("s in total", "ms each", "calls", "statement"),
        [
            (f"{each.total_milliseconds / 1000:,.1f}", f"{each.mean_milliseconds:,.1f}", f"{each.calls:,}",
             each.query_text[:300])
            for each in found.postgres
        ],
    )  # fmt: skip
    table(
        "ClickHouse",
        ("s in total", "ms each", "calls", "statement"),
        [
            (f"{each.total_milliseconds / 1000:,.1f}", f"{each.mean_milliseconds:,.1f}", f"{each.calls:,}",
             each.query_text[:300])
            for each in found.clickhouse_slow or ()
        ],
    )  # fmt: skip
    table(
        "ClickHouse, failing",
        ("times", "error", "statement"),
        [(f"{each.times:,}", each.error, each.query_text[:300]) for each in found.clickhouse_failing or ()],
    )
    table(
        "Slower than the week before",
        ("ms before", "ms now", "calls", "statement"),
        [
            (f"{each.mean_before_milliseconds:,.1f}", f"{each.mean_now_milliseconds:,.1f}",
             f"{each.calls_now:,}", each.query_text[:300])
            for each in found.weeks.regressions
        ],
    )  # fmt: skip
    if not (found.postgres or found.clickhouse_slow or found.clickhouse_failing or found.weeks.regressions):
        print("nothing was recorded; bilten queries collect looks now")


def advice(as_json: output.Json = False) -> None:
    """What to index, drop, vacuum: each with its statement and what it should gain. Changes nothing.

    Exits 1 when something could not be read; advice is not a failure.
    """
    with output.errors("advice", as_json=as_json):
        from bilten_orchestration.observability.queries.advice import advise
        from bilten_orchestration.observability.queries.markdown import of_advice
        from bilten_orchestration.settings.loading import load_settings

        report = advise(load_settings(), progress=output.say)
        output.finish(
            "advice",
            {
                "at": report.at,
                "advice": report.advice,
                "regressions": report.weeks.regressions,
                "clickhouse_slow": report.clickhouse_slow,
                "clickhouse_failing": report.clickhouse_failing,
                "gain_bytes": report.gain_bytes,
            },
            as_json=as_json,
            problems=report.problems,
            human=lambda: print(of_advice(report)),
        )
