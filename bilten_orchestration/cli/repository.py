"""`bilten backup copy|prune|keys`: the upkeep of the repository."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import age, size

if TYPE_CHECKING:
    from bilten_orchestration.backups.copies.copy import CopyReport
    from bilten_orchestration.backups.repository.key_usage import KeyReport
    from bilten_orchestration.backups.retention.prune import PruneReport


def copy(
    deep: Annotated[
        bool, typer.Option("--deep", help="Read again all that the second bucket holds.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """Copy what the second bucket lacks: backups, WAL, the application's files. Overwrites nothing.

    Exits 1 when something cannot be copied, or lies there with other bytes.
    """
    with output.errors("backup copy", as_json=as_json):
        from bilten_orchestration.backups.copies.copy import copy as bring
        from bilten_orchestration.settings.loading import load_settings

        report = bring(load_settings(), deep=deep, progress=output.say)
        output.finish(
            "backup copy",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_copied(report),
        )


def _show_copied(report: CopyReport) -> None:
    print(
        f"{report.copied_objects:,} objects copied to {report.bucket}, {size(report.copied_bytes)} "
        f"in {report.seconds:.1f} s"
    )
    if report.reread_objects:
        print(f"{report.reread_objects:,} read again, {size(report.reread_bytes)}")
    if report.files is not None:
        print(
            f"{report.files.files:,} files of the application: {report.files.copied_objects:,} copied, "
            f"{report.files.bad:,} bad"
        )
    lag = report.lag
    print(f"left: {lag.objects:,} objects, {size(lag.bytes)}, the oldest {age(lag.seconds)} old")


def prune(
    execute: Annotated[
        bool, typer.Option("--execute", help="Remove; without it nothing is touched.")
    ] = False,
    as_json: output.Json = False,
) -> None:
    """What retention keeps and removes, line by line with the reason; with --execute it is removed.

    Both buckets are judged, each by what it holds. A store whose catalogue has problems is left alone, and
    the exit code is 1.
    """
    with output.errors("backup prune", as_json=as_json):
        from bilten_orchestration.backups.retention.prune import prune as decide
        from bilten_orchestration.settings.loading import load_settings

        report = decide(load_settings(), execute=execute, by="bilten backup prune", progress=output.say)
        output.finish(
            "backup prune",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_pruned(report),
        )


def _show_pruned(report: PruneReport) -> None:
    for line in report.lines:
        number = f" ({line.number:,} objects, {size(line.bytes)})" if line.subject != "backup" else ""
        text = f"{line.action:<7} {line.bucket:<6} {line.subject} {line.name}{number}: {line.reason}"
        print(textwrap.fill(text, 80, subsequent_indent=" " * 15, break_on_hyphens=False))
    lost = f"{report.reach_minutes_lost:,.0f} of {report.reach_minutes:,.0f} minutes of reach"
    if report.executed:
        print(f"removed {report.removed_objects:,} objects, {size(report.removed_bytes)}; {lost} gone")
    elif report.bytes_going:
        print(f"would remove {size(report.bytes_going)}, and with it {lost}")
        print("to do it: bilten backup prune --execute")
    else:
        print("nothing to remove")


def keys(
    rotate: Annotated[bool, typer.Option("--rotate", help="Add a key that encrypts from now on.")] = False,
    as_json: output.Json = False,
) -> None:
    """The keys of the key file, and how many backups are under each; never a key itself.

    Exits 1 when backups are under a key that is not in the file: they are lost until it is found.
    """
    with output.errors("backup keys", as_json=as_json):
        from bilten_orchestration.backups.repository.key_usage import examine
        from bilten_orchestration.settings.loading import load_settings

        report = examine(load_settings(), rotate=rotate)
        output.finish(
            "backup keys",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_keys(report),
        )


def _show_keys(report: KeyReport) -> None:
    print(f"{'KEY':<18}  {'STATE':<8}  {'KMS':<3}  {'BACKUPS':>7}  {'STORED':>10}")
    for each in report.keys:
        stored = "?" if each.stored_bytes is None else size(each.stored_bytes)
        wrapped = "yes" if each.wrapped else "no"
        print(f"{each.id:<18}  {each.state:<8}  {wrapped:<3}  {each.backups:>7,}  {stored:>10}")
    if report.lost:
        print(f"lost: {len(report.lost)} backups are under a key that is not in {report.file}")
    if report.rotated:
        print(
            f"{report.file}\nhas a new key: copy the file to where you keep it, now. Backups from now on\n"
            "cannot be read with an older copy."
        )
