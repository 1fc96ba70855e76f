"""`bilten search reindex|delta|rollback|status|drift|prune|mapping|query`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output, search_mapping, search_query
from bilten_orchestration.cli.backup import size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bilten_orchestration.search.gates import Verdict
    from bilten_orchestration.search.prune import PruneReport
    from bilten_orchestration.search.rebuild import RebuildReport
    from bilten_orchestration.search.status import SearchStatus


def register(app: typer.Typer) -> None:
    search = typer.Typer(help="The events index.", no_args_is_help=True)
    search.command("reindex")(rebuild)
    search.command("delta")(delta)
    search.command("rollback")(rollback)
    search.command("status")(status)
    search.command("drift")(drift)
    search.command("prune")(prune)
    search.command("mapping")(search_mapping.mapping)
    search.command("query")(search_query.query)
    app.add_typer(search, name="search")


def rebuild(
    fresh: Annotated[
        bool, typer.Option("--fresh", help="From the start, also where an interrupted build could go on.")
    ] = False,
    accept_size: Annotated[
        bool,
        typer.Option(
            "--accept-size", help="Without the gate of size, and on with an index that it alone has refused."
        ),
    ] = False,
    accept_epoch: Annotated[
        bool,
        typer.Option(
            "--accept-epoch",
            help="After a restore: although the index that serves shows another PostgreSQL, or past."
            " `bilten search delta` tells what differs.",
        ),
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Build a new index beside the one that serves, prove it, and put it in its place.

    Nobody is kept from writing or searching. One that was interrupted goes on where it was. Exits 1 when a
    gate refused the new index; the old one goes on serving.
    """
    with output.errors("search reindex", as_json=as_json):
        from bilten_orchestration.search.rebuild import rebuild as build
        from bilten_orchestration.settings.loading import load_settings

        report = build(
            load_settings(),
            fresh=fresh,
            accept_size=accept_size,
            accept_epoch=accept_epoch,
            progress=output.say,
        )
        output.finish(
            "search reindex",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_rebuilt(report),
        )


def delta(
    accept_epoch: Annotated[
        bool,
        typer.Option(
            "--accept-epoch",
            help="After a restore: write every document again, and remove what PostgreSQL does not have."
            " Run it without this first, to see what would change.",
        ),
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Bring what changed in PostgreSQL to the index that serves. Exits 1 when it refuses documents."""
    with output.errors("search delta", as_json=as_json):
        from bilten_orchestration.search.delta import delta as follow
        from bilten_orchestration.settings.loading import load_settings

        report = follow(load_settings(), accept_epoch=accept_epoch, progress=output.say)
        applied = report.applied
        output.finish(
            "search delta",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: print(
                f"{applied.index}: batch {applied.batch}, {applied.operations:,} documents, "
                f"{applied.lag_seconds:.2f} s behind"
                + (f"; all were written again, {report.removed:,} removed" if report.accepted else "")
            ),
        )


def rollback(
    to: Annotated[
        str | None, typer.Option("--to", help="This kept index; else the one that served before.")
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Back to the index before, once it was brought up to what changed since and proven.

    The one that serves now is kept in its turn. Exits 1 when a gate refused; then nothing has changed.
    """
    with output.errors("search rollback", as_json=as_json):
        from bilten_orchestration.search.rollback import rollback as go_back
        from bilten_orchestration.settings.loading import load_settings

        report = go_back(load_settings(), to=to, progress=output.say)

        def human() -> None:
            print(
                f"{report.index} {'serves, in place of' if report.swapped else 'was refused; serving:'} "
                f"{report.before}"
            )
            print(f"  {report.changes:,} changes replayed, {report.lag_seconds:.2f} s behind")
            if report.omitted_fields:
                print(f"  without fields that it does not know: {', '.join(report.omitted_fields)}")
            _show_verdicts(report.verdicts)

        output.finish("search rollback", report, as_json=as_json, problems=report.problems, human=human)


def status(as_json: output.Json = False) -> None:
    """Which index serves, how far it is behind, what is built, what there is to go back to."""
    with output.errors("search status", as_json=as_json):
        from bilten_orchestration.search.status import status as look
        from bilten_orchestration.settings.loading import load_settings

        found = look(load_settings())
        output.finish(
            "search status",
            found,
            as_json=as_json,
            problems=found.problems,
            human=lambda: _show_status(found),
        )


def drift(
    whole: Annotated[
        bool, typer.Option("--all", help="Every document; else a sample of both sides.")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair/--no-repair", help="Or only tell what differs.")] = True,
    as_json: output.Json = False,
) -> None:
    """Compare the index that serves with PostgreSQL, and repair what differs. Exits 1 when anything did."""
    with output.errors("search drift", as_json=as_json):
        from bilten_orchestration.search.drift import drift as check
        from bilten_orchestration.settings.loading import load_settings

        report = check(load_settings(), whole=whole, repair=repair, progress=output.say)
        output.finish(
            "search drift",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: print(
                f"{report.index}: {report.compared.documents_postgres:,} documents compared, "
                f"{report.compared.differing:,} differ, {report.repaired:,} repaired"
            ),
        )


def prune(
    execute: Annotated[bool, typer.Option("--execute", help="Remove; else only tell what would go.")] = False,
    as_json: output.Json = False,
) -> None:
    """Remove indices that are kept no longer. Without --execute it shows what would go, and why."""
    with output.errors("search prune", as_json=as_json):
        from bilten_orchestration.search.prune import prune as remove
        from bilten_orchestration.settings.loading import load_settings

        report = remove(load_settings(), execute=execute, progress=output.say)
        output.finish(
            "search prune", report, as_json=as_json, human=lambda: _show_pruned(report, execute=execute)
        )


def _show_rebuilt(report: RebuildReport) -> None:
    became = "serves" if report.swapped else "was refused"
    print(f"{report.index} {became}; before it: {report.before or 'none'}")
    resumed = ", gone on with" if report.resumed else ""
    print(f"  {report.documents:,} documents, {size(report.bytes)}, in {report.seconds:.1f} s{resumed}")
    print(
        f"  {report.changes:,} changes in {report.batches} batches, {report.lag_seconds:.2f} s behind, "
        f"{report.dead_letters} dead letters"
    )
    _show_verdicts(report.verdicts)


def _show_verdicts(verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        print(f"  {verdict.gate:<13} {'passed' if verdict.ok else 'REFUSED':<8} {verdict.found}")


def _show_status(found: SearchStatus) -> None:
    print(f"{found.alias}: {found.index or 'no index'}")
    if found.lease_holder:
        print(f"  at work: {found.lease_holder}")
    for index in found.indices:
        shown = (
            "not there" if not index.exists else f"{index.documents:,} documents, {size(index.bytes or 0)}"
        )
        lag = "" if index.lag_seconds is None else f", {index.lag_seconds:,.0f} s behind"
        print(f"  {index.state:<10} {index.name}  {shown}{lag}")
        if index.state == "building" and index.ranges:
            print(f"             {index.ranges_finished:,} of {index.ranges:,} ranges loaded")
    for swap in found.swaps:
        print(f"  {swap.swapped_at:%F %T}  {swap.reason:<8}  {swap.to_index}")


def _show_pruned(report: PruneReport, *, execute: bool) -> None:
    for each in report.actions:
        gone = "gone already" if each.bytes is None else size(each.bytes)
        print(f"{each.action:<7} {each.index}  {gone}  {each.reason}")
    if not execute and any(each.action == "remove" for each in report.actions):
        print("nothing was removed; --execute removes")
