"""`bilten partitions adopt`: an ordinary table becomes partitioned, or back; a default one is emptied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.partitions.adoption.back import BackReport
    from bilten_orchestration.partitions.adoption.default import DefaultReport
    from bilten_orchestration.partitions.adoption.forward import AdoptionReport
    from bilten_orchestration.partitions.declared import PartitionedTable

_COMMAND = "partitions adopt"


def register(partitions: typer.Typer) -> None:
    partitions.command("adopt")(adopt)


def adopt(
    table: Annotated[str, typer.Argument(help="schema.table, declared in partitions/declared.py.")],
    back: Annotated[
        bool, typer.Option("--back", help="Undo it: the first partition is the table again.")
    ] = False,
    default: Annotated[
        bool,
        typer.Option("--default", help="Move the rows of a default partition to their own, and drop it."),
    ] = False,
    move_rows: Annotated[
        int,
        typer.Option(
            "--move-rows", min=0, help="With --back: rows of later partitions that may move under the lock."
        ),
    ] = 20_000,
    execute: Annotated[
        bool, typer.Option("--execute", help="Do it; without this it is told what would be done.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Make an ordinary table the first partition of a new parent of its name; nothing is copied."""
    with output.errors(_COMMAND, as_json=as_json):
        from bilten_orchestration.errors import UsageError
        from bilten_orchestration.partitions.adoption.back import back as go_back
        from bilten_orchestration.partitions.adoption.default import empty_default
        from bilten_orchestration.settings.loading import load_settings

        if back and default:
            raise UsageError("--back and --default are two ways", next="bilten partitions adopt --help")
        declared = _declared(table)
        settings = load_settings()
        report: AdoptionReport | BackReport | DefaultReport
        if back:
            report = go_back(settings, declared, execute=execute, move_rows=move_rows, progress=output.say)
        elif default:
            report = empty_default(settings, declared, execute=execute, progress=output.say)
        else:
            report = _forward(declared, execute=execute)
        output.finish(_COMMAND, report, as_json=as_json, human=lambda: _show(report))


def _forward(table: PartitionedTable, *, execute: bool) -> AdoptionReport:
    from datetime import UTC, datetime

    from bilten_orchestration.partitions.adoption.forward import adopt as go
    from bilten_orchestration.partitions.bounds import Period
    from bilten_orchestration.partitions.locking import Patience
    from bilten_orchestration.partitions.premake import ensure_months
    from bilten_orchestration.settings.loading import load_settings
    from bilten_orchestration.stores import postgres

    settings = load_settings()
    report = go(settings, table, execute=execute, progress=output.say)
    if report.executed:
        last = Period.of(datetime.now(UTC), table.interval).plus(table.premake).first
        with postgres.connect(
            settings.postgres, application_name="bilten partitions adopt", autocommit=True
        ) as connection:
            made = ensure_months(
                connection,
                table.name,
                report.plan.to_at.date(),
                last,
                patience=Patience.of(settings.partitions),
            )
        output.say(f"{table.name}: made {len(made)} partitions up to {last}")
    return report


def _declared(name: str) -> PartitionedTable:
    from bilten_orchestration.errors import Refused
    from bilten_orchestration.partitions.declared import BY_NAME

    if name not in BY_NAME:
        raise Refused(
            f"{name} is not declared",
            expected=", ".join(BY_NAME),
            found=name,
            next="declare interval and retention in bilten_orchestration/partitions/declared.py",
        )
    return BY_NAME[name]


def _show(report: AdoptionReport | BackReport | DefaultReport) -> None:
    from bilten_orchestration.partitions.adoption.back import BackReport
    from bilten_orchestration.partitions.adoption.default import DefaultReport

    if isinstance(report, BackReport):
        print(f"{report.table}: {report.way}")
        print(f"rows to move: {report.rows_to_move}")
        print(f"partitions that go: {', '.join(report.partitions_dropped) or 'none'}")
    elif isinstance(report, DefaultReport):
        print(f"{report.partition}, of {report.table}:")
        for period, rows in report.rows.items():
            print(f"  {period}  {rows} rows")
        if report.executed:
            print(f"{report.moved} rows moved; {report.partition} is dropped")
        else:
            print("until they have moved, they are to be seen only in that table")
    else:
        plan = report.plan
        print(f"{plan.table}: about {plan.rows} rows, {plan.bytes} bytes, to {plan.first}")
        for step in plan.steps:
            print(f"  {step}")
        if report.locked_seconds is not None:
            print(f"done; writers were kept out for {report.locked_seconds:.3f} s at most")
    if not report.executed:
        print("nothing was done: --execute does it")
