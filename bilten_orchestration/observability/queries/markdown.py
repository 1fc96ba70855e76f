"""The weekly advice as Markdown, for the Dagster UI and for a file."""

from __future__ import annotations

from collections.abc import Iterator

from bilten_orchestration.observability.queries.advice import AdviceReport
from bilten_orchestration.observability.queries.lines import Advice

SHOWN = 30
TITLES = {
    "index": "To index",
    "drop": "To drop",
    "rebuild": "To rebuild",
    "vacuum": "To vacuum",
    "analyze": "To analyse",
}


def of_advice(report: AdviceReport) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: AdviceReport) -> Iterator[str]:
    yield f"# Advice of {report.at:%F %H:%M} UTC"
    yield ""
    yield "Nothing of this was applied. Statements run one by one, outside a transaction."
    for problem in report.problems:
        yield f"\n**Not known:** {problem.what}. Next: `{problem.next}`"
    if not report.advice:
        yield "\nThere is nothing to index, drop or vacuum."
    for kind, title in TITLES.items():
        chosen = [each for each in report.advice if each.kind == kind]
        if chosen:
            yield f"\n## {title}\n"
            for each in chosen[:SHOWN]:
                yield from _advice(each)
            if len(chosen) > SHOWN:
                yield f"\n{len(chosen) - SHOWN} more: `bilten advice --json`"
    if report.usage.standbys:
        yield f"\nScans of {', '.join(report.usage.standbys)} are not in these numbers."
    yield from _weeks(report)
    yield from _clickhouse(report)


def _advice(each: Advice) -> Iterator[str]:
    yield f"- **{each.object}**: {each.reason}. Gain: {each.gain}."
    if each.caution:
        yield f"  Before: {each.caution}."
    for statement in each.statements:
        yield (
            f"\n  ```sql\n  {statement};\n  ```" if not statement.startswith("--") else f"  {statement[3:]}."
        )


def _weeks(report: AdviceReport) -> Iterator[str]:
    weeks = report.weeks
    yield "\n## Slower than last week\n"
    yield (
        f"{weeks.compared} statements ran often enough in both weeks"
        f" ({weeks.days_before} and {weeks.days_now} of 7 days have numbers)."
    )
    if weeks.regressions:
        yield "\n| ms before | ms now | calls now | s added | statement |\n|--:|--:|--:|--:|---|"
    for each in weeks.regressions[:SHOWN]:
        yield (
            f"| {each.mean_before_milliseconds:,.1f} | {each.mean_now_milliseconds:,.1f} | {each.calls_now:,}"
            f" | {each.added_milliseconds / 1000:,.1f} | {_cell(each.query_text)} |"
        )


def _clickhouse(report: AdviceReport) -> Iterator[str]:
    if report.clickhouse_slow:
        yield "\n## ClickHouse: slow and heavy\n"
        yield "| s in total | ms each | calls | GiB read | statement |\n|--:|--:|--:|--:|---|"
        for each in report.clickhouse_slow[:SHOWN]:
            yield (
                f"| {each.total_milliseconds / 1000:,.1f} | {each.mean_milliseconds:,.0f} | {each.calls:,}"
                f" | {each.read_bytes / 2**30:,.2f} | {_cell(each.query_text)} |"
            )
    if report.clickhouse_failing:
        yield "\n## ClickHouse: failing\n"
        yield "| times | error | user | last | statement |\n|--:|---|---|---|---|"
        for failed in report.clickhouse_failing[:SHOWN]:
            yield (
                f"| {failed.times:,} | {failed.error} | {failed.user} | {failed.last_at:%F %H:%M}"
                f" | {_cell(failed.query_text)} |"
            )


def _cell(text: str) -> str:
    """Statements hold bars and backticks; a cell is one line."""
    line = " ".join(text.split())[:300].replace("`", "'").replace("|", "\\|")
    return f"`{line}`"
