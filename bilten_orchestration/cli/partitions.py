"""`bilten partitions plan|apply|list|restore`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import adopt, output
from bilten_orchestration.cli.backup import BucketChoice, FromBucket, size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bilten_orchestration.partitions.listing import PartitionRow
    from bilten_orchestration.partitions.plan import Action
    from bilten_orchestration.partitions.restore import RestoreReport
    from bilten_orchestration.partitions.run import RunReport

Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", help="Partitions of one table that may begin to end; else the setting end_limit.", min=0
    ),
]


def register(app: typer.Typer) -> None:
    partitions = typer.Typer(help="Tables partitioned by time.", no_args_is_help=True)
    partitions.command("plan")(plan)
    partitions.command("apply")(apply)
    partitions.command("list")(list_)
    partitions.command("restore")(restore)
    adopt.register(partitions)
    app.add_typer(partitions, name="partitions")


def plan(limit: Limit = None, as_json: output.Json = False) -> None:
    """What `apply` would do, and why. Changes nothing.

    Exits 1 when something hinders: a default partition, bounds that overlap, a foreign key, a clock.
    """
    with output.errors("partitions plan", as_json=as_json):
        from bilten_orchestration.partitions.run import preview
        from bilten_orchestration.settings.loading import load_settings

        found = preview(load_settings(), limit=limit, progress=output.say)
        output.finish(
            "partitions plan",
            {"actions": found.actions},
            as_json=as_json,
            problems=found.problems,
            human=lambda: _show_actions(found.actions),
        )


def apply(limit: Limit = None, as_json: output.Json = False) -> None:
    """Make the partitions that are missing; detach, archive, prove and drop those that are over.

    Each is archived in the repository, read back, and compared before it goes. A run that was interrupted is
    finished by the next. Exits 1 when something hinders; the rest is done.
    """
    with output.errors("partitions apply", as_json=as_json):
        from bilten_orchestration.partitions.run import apply as carry_out
        from bilten_orchestration.settings.loading import load_settings

        report = carry_out(load_settings(), limit=limit, by="bilten partitions apply", progress=output.say)
        output.finish(
            "partitions apply",
            {"actions": report.plan.actions, "done": report.done, "swept_bytes": report.swept_bytes},
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_applied(report),
        )


def restore(
    table: Annotated[str, typer.Argument(help="Such as users.user_behavior.")],
    period: Annotated[str, typer.Argument(help="2026-01; of weeks 2026-W05, of days 2026-01-31.")],
    beside: Annotated[
        bool, typer.Option("--beside", help="Into a table of its own, also where it would fit.")
    ] = False,
    hold_days: Annotated[
        int | None,
        typer.Option(
            "--hold-days", help="Not ended again before; else the setting restored_hold_days.", min=1
        ),
    ] = None,
    bucket: FromBucket = BucketChoice.first,
    as_json: output.Json = False,
) -> None:
    """Bring an archived partition back, equal by digest.

    Attached where it fits; beside the table where columns, rules or foreign keys forbid it, which are listed.
    It is held: maintenance does not end it again before the hold is over.
    """
    with output.errors("partitions restore", as_json=as_json):
        from bilten_orchestration.errors import UsageError
        from bilten_orchestration.partitions.restore import restore as bring_back
        from bilten_orchestration.partitions.run import is_of_clickhouse, restore_month
        from bilten_orchestration.settings.loading import load_settings

        if is_of_clickhouse(table):
            if beside or bucket is not BucketChoice.first or hold_days is not None:
                raise UsageError(
                    "--beside, --hold-days and --from are of tables of PostgreSQL",
                    expected=f"bilten partitions restore {table} {period}",
                    next="a month of ClickHouse comes back beside whatever rows it has by now",
                )
            month = restore_month(
                load_settings(), table, period, by="bilten partitions restore", progress=output.say
            )
            output.finish(
                "partitions restore",
                month,
                as_json=as_json,
                human=lambda: print(f"{month.partition}: {month.rows:,} rows, from {month.archive}"),
            )
            return
        report = bring_back(
            load_settings(),
            table,
            period,
            beside=beside,
            hold_days=hold_days,
            bucket=bucket.value,
            by="bilten partitions restore",
            progress=output.say,
        )
        output.finish("partitions restore", report, as_json=as_json, human=lambda: _show_restored(report))


def list_(
    accept: Annotated[
        bool, typer.Option("--accept", help="Record partitions as they are now, where somebody changed them.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Every partition of the declared tables: bounds (UTC), rows (estimated), bytes.

    Exits 1 when the next interval is not there, or when a partition is not as it was recorded.
    """
    with output.errors("partitions list", as_json=as_json):
        from bilten_orchestration.partitions.drift import reconcile
        from bilten_orchestration.partitions.listing import list_partitions
        from bilten_orchestration.settings.loading import load_settings

        settings = load_settings()
        found = reconcile(settings, measure=False, accept=accept, run="bilten partitions list")
        rows, problems = list_partitions(settings)
        problems += found.problems
        output.finish(
            "partitions list",
            {"partitions": rows},
            as_json=as_json,
            problems=problems,
            human=lambda: _show(rows),
        )


def _show_actions(actions: Iterable[Action]) -> None:
    shown = list(actions)
    if not shown:
        print("nothing to do")
    for each in shown:
        print(f"{each.action:<8} {each.partition}")
        rows = "" if each.rows is None else f"; {each.rows:,} rows"
        _wrapped(f"{each.reason}{rows}{'' if not each.bytes else f', {size(each.bytes)}'}")


def _show_applied(report: RunReport) -> None:
    if not report.done:
        print("nothing was done")
    for each in report.done:
        print(f"{each.action.action:<8} {each.action.partition}, {each.seconds:.1f} s")
        if each.archive is not None:
            _wrapped(f"{each.rows or 0:,} rows, {each.archive}")
    kept = [each for each in report.plan.actions if each.action == "keep"]
    if kept:
        _show_actions(kept)
    if report.swept_bytes:
        print(f"{size(report.swept_bytes)} removed, of archives that were interrupted")


def _show_restored(report: RestoreReport) -> None:
    print(f"{report.partition}: {report.way}, {report.rows:,} rows in {report.seconds:.1f} s")
    _wrapped(f"from {report.archive}")
    if report.hold_until is not None:
        print(f"  held until {report.hold_until:%Y-%m-%d %H:%M} UTC; then maintenance ends it again")
    for reason in report.reasons:
        _wrapped(f"beside, because {reason}")
    for note in report.notes:
        _wrapped(f"note: {note}")


def _wrapped(text: str) -> None:
    print(textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))


def _show(rows: list[PartitionRow]) -> None:
    width = max((len(row.partition) for row in rows), default=0)
    for row in rows:
        bounds = f"{row.from_at:%F} to {row.to_at:%F}" if row.from_at and row.to_at else "unbounded"
        print(f"{row.partition:<{width}}  {bounds}  {row.state:<9}  ~{row.rows} rows  {row.bytes} bytes")
