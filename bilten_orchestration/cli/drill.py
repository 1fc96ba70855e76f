"""`bilten drill run|list`."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import BucketChoice, FromBucket, size

if TYPE_CHECKING:
    from bilten_orchestration.drills.attestation import Attested
    from bilten_orchestration.drills.listing import Listing
    from bilten_orchestration.drills.report import DrillReport
    from bilten_orchestration.settings import DrillSettings

ALL = "all"


def register(app: typer.Typer) -> None:
    drill = typer.Typer(help="Restore drills: the data come back, every day.", no_args_is_help=True)
    drill.command("run")(run)
    drill.command("list")(list_)
    app.add_typer(drill, name="drill")


def run(
    store: Annotated[
        str, typer.Argument(help="Whose: postgres, clickhouse, redis, search, or all.", metavar="STORE|all")
    ],
    way: Annotated[
        str | None, typer.Option("--way", help="This way back alone; else those that are due today.")
    ] = None,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Or read every table of production, also unchanged ones."),
    ] = True,
    as_json: output.Json = False,
) -> None:
    """Restore into a scratch place, prove what came back, and attest it in the repository.

    Production is only read; nothing of a drill stays. Exits 1 when one failed: it says in which phase, what
    was expected and found, and the next step.
    """
    with output.errors("drill run", as_json=as_json):
        from bilten_orchestration.drills import plan
        from bilten_orchestration.drills.run import run as walk
        from bilten_orchestration.errors import BiltenError, Problem, UsageError
        from bilten_orchestration.settings.loading import load_settings

        if store == ALL and way is not None:
            raise UsageError("a way is of one store", expected="bilten drill run STORE --way W", found=ALL)
        settings = load_settings()
        if not cache:
            drills = settings.drills.model_copy(update={"digest_reread_days": 0})
            settings = settings.model_copy(update={"drills": drills})
        reports: list[DrillReport] = []
        problems: list[Problem] = []
        for each in plan.drilled(settings) if store == ALL else (store,):
            try:
                reports += walk(settings, each, way=way, progress=output.say)
            except BiltenError as error:
                if store != ALL:
                    raise
                problems += error.problems  # the other stores are drilled all the same
        problems += [problem for report in reports for problem in failures(report)]
        output.finish(
            "drill run",
            {
                "drills": [
                    {**asdict(report), "projection": _projected(report, settings.drills)}
                    for report in reports
                ]
            },
            as_json=as_json,
            problems=problems,
            human=lambda: _show(reports, settings.drills),
        )


def failures(report: DrillReport) -> list[Any]:
    """Its problems, each with the drill and the phase that it is of."""
    from dataclasses import replace

    head = f"drill {report.store} {report.way} failed in {report.failed_phase}"
    return [replace(problem, what=f"{head}: {problem.what}") for problem in report.problems]


def _projected(report: DrillReport, settings: DrillSettings) -> dict[str, object] | None:
    from bilten_orchestration.drills.projection import projection

    found = projection(report, settings.production_bytes(report.store))
    return None if found is None else {**asdict(found), "at_most": found.at_most, "formula": found.formula}


def _show(reports: list[DrillReport], settings: DrillSettings) -> None:
    from bilten_orchestration.drills.projection import projection

    for report in reports:
        print(f"{report.store} {report.way}: {'passed' if report.ok else f'FAILED in {report.failed_phase}'}")
        print(
            f"  RPO {_seconds(report.rpo_seconds)}, RTO {_seconds(report.rto_seconds)}, "
            f"{size(report.restored_bytes)} restored"
        )
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.phases.items())
        if phases:
            _wrapped(f"seconds: {phases}")
        for proof in report.proofs:
            state = "proven" if proof.ok else "WARNS" if proof.warns else "NOT PROVEN"
            _wrapped(f"{state}: {proof.name}: {proof.found}")
        projected = projection(report, settings.production_bytes(report.store))
        if projected is not None:
            _wrapped(f"projected: {projected.formula}")


def _wrapped(text: str) -> None:
    print(textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.1f} s"


def list_(
    store: Annotated[str | None, typer.Option("--store", help="Of this one alone.", metavar="STORE")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the whole series, link by link, and both buckets.")
    ] = False,
    newest: Annotated[
        int | None, typer.Option("--newest", help="So many of each store; else all.", min=1)
    ] = None,
    bucket: FromBucket = BucketChoice.first,
    as_json: output.Json = False,
) -> None:
    """Every drill that the repository attests, oldest first; no database is needed.

    Exits 1 when a document cannot be believed or the series has a break: one that is missing, altered,
    forged, out of its order, or a fork. --verify also finds an end that was cut off.
    """
    with output.errors("drill list", as_json=as_json):
        from bilten_orchestration.drills import listing, plan
        from bilten_orchestration.settings.loading import load_settings

        # raises for a store that has no drills
        wanted = None if store is None else plan.due(store, {})[0].store
        found = listing.listed(load_settings(), wanted, newest=newest, whole=verify, bucket=bucket.value)
        output.finish(
            "drill list",
            {"drills": [_listed(each) for each in found.drills], "verified": found.verified},
            as_json=as_json,
            problems=found.problems,
            human=lambda: _show_listed(found),
        )


def _listed(attested: Attested) -> dict[str, object]:
    report = attested.report
    return {
        "id": report.id,
        "store": report.store,
        "way": report.way,
        "at": report.started_at,
        "ok": report.ok,
        "rpo_seconds": report.rpo_seconds,
        "rto_seconds": report.rto_seconds,
        "phases": dict(report.phases),
        "number": attested.number,
        "sha256": attested.sha256,
        "failed_phase": report.failed_phase,
        "warnings": [{"name": each.name, "found": each.found} for each in report.warnings],
        "backups": report.backups,
    }


def _show_listed(found: Listing) -> None:
    if not found.drills:
        print("no drills; hold one: bilten drill run all")
        return
    print(f"{'STORE':<10} {'NO':>5} {'AT (UTC)':<16} {'WAY':<13} {'RPO':>9} {'RTO':>9}  RESULT")
    for each in found.drills:
        report = each.report
        result = "passed" if report.ok else "FAILED"
        print(
            f"{report.store:<10} {each.number:>5} {report.started_at:%Y-%m-%d %H:%M} {report.way:<13} "
            f"{_seconds(report.rpo_seconds):>9} {_seconds(report.rto_seconds):>9}  {result}"[:80]
        )
        for problem in report.problems:
            _wrapped(f"in {report.failed_phase}: {problem.what}")
        for proof in report.warnings:
            _wrapped(f"warns: {proof.name}: {proof.found}")
    if found.verified and not found.problems:
        print(f"{len(found.drills)} drills: every link of the series holds")
