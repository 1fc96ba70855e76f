"""`bilten search mapping`: the index that serves against the definition in the code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.search.mapping import MappingReport


def mapping(
    execute: Annotated[
        bool, typer.Option("--execute", help="Add what is missing, where that is enough.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """What differs, and what it takes: nothing, an addition in place, or a rebuild. Exits 1 while it differs.

    An addition writes every document again, as one batch; a rebuild is another command.
    """
    with output.errors("search mapping", as_json=as_json):
        from bilten_orchestration.errors import Problem
        from bilten_orchestration.search import mapping as engine
        from bilten_orchestration.search.definition import Step
        from bilten_orchestration.settings.loading import load_settings

        settings = load_settings()
        report = engine.add(settings, progress=output.say) if execute else engine.examine(settings)
        differs = not execute and report.step is not Step.NOTHING
        problem = Problem(
            f"{report.index or 'nothing'} serves, which is not as defined",
            expected=f"mapping {report.wanted_hash}",
            found=report.live_hash or "none",
            next="bilten search mapping --execute" if report.step is Step.ADD else "bilten search reindex",
        )
        output.finish(
            "search mapping",
            report,
            as_json=as_json,
            problems=[problem] if differs else [],
            human=lambda: _show(report, done=execute),
        )


def _show(report: MappingReport, *, done: bool) -> None:
    print(f"{report.index or 'no index'}: {report.step.value}")
    for change in report.changes:
        print(f"  {change}")
    if done:
        print(f"  {report.documents:,} documents written again in {report.seconds:.1f} s")
