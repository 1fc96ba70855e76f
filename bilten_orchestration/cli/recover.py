"""`bilten recover`; rows are here, sites and runs in recover_site.py and recover_runs.py."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output, recover_runs, recover_site
from bilten_orchestration.cli.backup import BucketChoice, FromBucket
from bilten_orchestration.cli.recover_shown import Rebuild, show_settled, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bilten_orchestration.recovery.candidates import Candidate
    from bilten_orchestration.recovery.comparison import TableChanges
    from bilten_orchestration.recovery.rows import RowsReport


class ChangedSince(StrEnum):
    """What becomes of rows that somebody changed again."""

    refuse = "refuse"
    keep = "keep"
    merge = "merge"
    overwrite = "overwrite"


def register(app: typer.Typer) -> None:
    recover = typer.Typer(help="Damaged rows, or lost stores, brought back.", no_args_is_help=True)
    recover.command("rows")(rows)
    recover.command("site")(recover_site.site)
    recover.command("runs")(recover_runs.runs)
    app.add_typer(recover, name="recover")


def rows(
    table: Annotated[str, typer.Option("--table", help="As schema.table.", metavar="TABLE")],
    transaction: Annotated[
        int | None,
        typer.Option("--transaction", "--before-xid", min=3, help="The one that did it, by its id."),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            help="All was well then: the only transaction that changed TABLE since is taken back.",
            metavar="TIME",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only list who changed TABLE since.", metavar="TIME")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="With --since: up to then.", metavar="TIME")
    ] = None,
    changed_since: Annotated[
        ChangedSince,
        typer.Option(
            "--changed-since",
            help="Rows that somebody changed again: refuse the whole, keep them, merge (put back columns that"
            " nobody changed since), or overwrite them.",
        ),
    ] = ChangedSince.refuse,
    backup: Annotated[
        str | None, typer.Option("--backup", help="What to start from; else chosen.", metavar="ID")
    ] = None,
    bucket: FromBucket = BucketChoice.first,
    execute: Annotated[
        bool, typer.Option("--execute", help="Copy back; without it nothing is written.")
    ] = False,
    rebuild: Rebuild = True,
    as_json: output.Json = False,
) -> None:
    """What one transaction did to rows is taken back, in every table that it wrote.

    The rows are found by restoring a server beside production, to just before its commit and just after. The
    preview shows what would be written; --execute writes it in one transaction, then brings ClickHouse up to
    date and compares the stores. TIME has its zone: 2026-11-21T03:15:00Z. Done twice it changes nothing more.
    """
    with output.errors("recover rows", as_json=as_json):
        from bilten_orchestration.errors import UsageError
        from bilten_orchestration.recovery import rows as engine
        from bilten_orchestration.settings.loading import load_settings

        given = [value for value in (transaction, before, since) if value is not None]
        if len(given) != 1 or (until is not None and since is None):
            raise UsageError(
                "a recovery of rows wants to know which transaction",
                expected="one of --since TIME (to look for it), --before TIME, --transaction ID",
                found=f"{len(given)} of them" + (", and --until" if until is not None else ""),
            )
        settings = load_settings()
        if since is not None:
            found = engine.find(settings, table, _moment(since), _moment(until) if until else None)
            output.finish(
                "recover rows",
                {"table": table, "candidates": found},
                as_json=as_json,
                human=lambda: _show_candidates(table, found),
            )
            return
        report = engine.recover(
            settings,
            table,
            transaction=transaction,
            before=None if before is None else _moment(before),
            changed_since=changed_since.value,
            backup=backup,
            bucket=bucket.value,
            execute=execute,
            rebuild=rebuild,
            by="bilten recover rows",
            progress=output.say,
        )
        output.finish(
            "recover rows",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_rows(report),
        )


def _moment(value: str) -> datetime:
    from bilten_orchestration.backups.postgres.targets import Target

    return Target("moment", value).moment


def _show_candidates(table: str, found: Sequence[Candidate]) -> None:
    from bilten_orchestration.recovery.candidates import AT_MOST

    if not found:
        print(f"no transaction of that time left a trace in {table}")
        return
    print(f"{'transaction':>12}  {'first (UTC)':<19}  {'updated':>8}  {'deleted':>8}  {'wrote last':>10}  by")
    for each in found[:AT_MOST]:
        print(
            f"{each.transaction:>12}  {each.first_at.astimezone(UTC):%F %T}  {each.updated:>8,}"
            f"  {each.deleted:>8,}  {each.wrote_last:>10,}  {', '.join(each.actors)[:14]}"
        )
    if len(found) > AT_MOST:
        print("and more: --until makes the time shorter")
    print(f"to see what one did: bilten recover rows --table {table} \\\n  --transaction ID")


def _show_rows(report: RowsReport) -> None:
    print(
        f"transaction {report.transaction}, committed {report.committed_at.astimezone(UTC):%F %T} UTC"
        f" at {report.commit_lsn}"
    )
    print(f"restored beside from {report.backup_id}")
    for killed in report.killed:
        done = "its rows had been copied back" if killed.done else "it had changed nothing"
        print(f"a recovery begun {killed.at[:19]} was killed: {done}")
    for problem in report.unread:
        wrapped(f"warning: the journal is not read whole: {problem.what}")
    print(f"{'':<34}{'insert':>9}{'update':>9}{'delete':>9}{'right':>9}{'changed':>9}")
    print(f"{'':<34}{'':>9}{'':>9}{'':>9}{'already':>9}{'since':>9}")
    for table in report.tables:
        print(
            f"{table.table:<34}{table.inserted:>9,}{table.updated + table.merged:>9,}{table.deleted:>9,}"
            f"{table.as_before:>9,}{table.kept:>9,}"
        )
    for table in report.tables:
        _show_sample(table)
    if report.left_out:
        print(f"not recovered, the platform's own records: {len(report.left_out)} tables")
    if not report.written:
        print("nothing to copy back")
    elif report.executed:
        print(f"{report.written:,} rows copied back, recovery {report.recovery}")
    else:
        print(f"{report.written:,} rows would be copied back; --execute does it")
    if report.settled is not None:
        show_settled(report.settled)
    wrapped(", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items()))


def _show_sample(table: TableChanges) -> None:
    for row in table.sample[:3]:
        what = row.action if row.action != "none" else row.state.replace("_", " ")
        print(f"  {table.table} {row.key}: {what}"[:80])
        if row.columns:
            print(f"    {', '.join(row.columns)}"[:80])
        if row.changed_again:
            print(f"    changed again: {', '.join(row.changed_again)}"[:80])
