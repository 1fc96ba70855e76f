"""`bilten recover site`."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import BucketChoice
from bilten_orchestration.cli.recover_shown import Rebuild, show_settled, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bilten_orchestration.local.layout import Layout
    from bilten_orchestration.local.supervision import Supervisor
    from bilten_orchestration.recovery import site_sources
    from bilten_orchestration.recovery.site import SiteReport
    from bilten_orchestration.settings import Settings


class Lost(StrEnum):
    """What may be gone."""

    postgres = "postgres"
    clickhouse = "clickhouse"
    redis = "redis"
    files = "files"


def site(
    store: Annotated[
        list[Lost] | None, typer.Option("--store", help="Only this one is lost; may be repeated.")
    ] = None,
    bucket: Annotated[
        BucketChoice | None,
        typer.Option("--bucket", help="Where from: the copy (the default), or the first, where it is alive."),
    ] = None,
    backup: Annotated[
        list[str] | None,
        typer.Option(
            "--backup", help="Start a store from this one; else from the newest.", metavar="STORE=ID"
        ),
    ] = None,
    target_time: Annotated[
        str | None,
        typer.Option(
            "--target-time", help="PostgreSQL as of then; else to the end of its WAL.", metavar="TIME"
        ),
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it; without it the plan is shown.")] = False,
    rebuild: Rebuild = True,
    as_json: output.Json = False,
) -> None:
    """Everything from the second bucket on an empty machine, or lost stores alone.

    The plan shows what each store comes back from, until when it reaches, and what stands in the way. With
    --execute the directories of the embedded servers are filled (they must be empty, the servers stopped),
    the servers started, and the stores brought together until they are proven equal. A run that was killed
    is gone on with by the same command; for what it has not brought back yet another bucket or backup may be
    named, or a store left out.
    """
    with output.errors("recover site", as_json=as_json):
        from bilten_orchestration.backups.postgres.targets import Target
        from bilten_orchestration.local import endpoints
        from bilten_orchestration.recovery import site as engine
        from bilten_orchestration.recovery.site_sources import LOST
        from bilten_orchestration.settings.loading import load_settings

        named = dict(map(_named, backup or ()))
        if target_time is not None:
            _ = Target("moment", target_time).moment
        given = load_settings(embedded=False)
        own = endpoints.embedded(given)
        wanted = {each.value for each in store} if store else None
        if "object_store" in own and not _answers():
            _object_store_alone()
        report = engine.recover(
            load_settings(),
            None if wanted is None else [each for each in LOST if each in wanted],
            bucket=None if bucket is None else bucket.value,
            named=named,
            until=target_time,
            execute=execute,
            make_way=_object_store_alone if "object_store" in own else lambda: None,
            start=_start,
            outside=[each for each in endpoints.wanted(given) if each not in own],
            rebuild=rebuild,
            progress=output.say,
        )
        output.finish(
            "recover site",
            report,
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_site(report),
        )


def _named(text: str) -> tuple[site_sources.Lost, str]:
    """Raises UsageError for what is not STORE=ID."""
    from bilten_orchestration.errors import UsageError
    from bilten_orchestration.recovery.site_sources import LOST

    name, _, backup = text.partition("=")
    for store in LOST:
        if store == name and backup:
            return store, backup
    raise UsageError(
        f"--backup {text} does not say of which store",
        expected="STORE=ID, of postgres, redis or clickhouse",
        found=text,
        next="bilten backup list",
    )


def _answers() -> bool:
    """Whether the stack is up, with the object store that holds the buckets."""
    with _stack() as (_, _, supervisor):
        return supervisor.answers()


def _object_store_alone() -> None:
    """Of the embedded stack only the object store runs from here on."""
    from bilten_orchestration.local import servers

    with _stack() as (places, given, supervisor):
        servers.start_object_store_alone(places, given, supervisor, output.say)


def _start(_: Settings) -> Settings:
    """The servers of the embedded stack."""
    from bilten_orchestration.local import servers

    with _stack() as (places, given, supervisor):
        return servers.start(places, given, supervisor, output.say).settings


@contextmanager
def _stack() -> Iterator[tuple[Layout, Settings, Supervisor]]:
    """Nobody else starts or stops any of it meanwhile."""
    from bilten_orchestration.file_lock import exclusive
    from bilten_orchestration.local.layout import layout
    from bilten_orchestration.local.supervision import Supervisor
    from bilten_orchestration.settings.loading import home_directory, load_settings

    places = layout(home_directory())
    with exclusive(places.lock, "recover site", output.say):
        yield places, load_settings(embedded=False), Supervisor(places)


def _show_site(report: SiteReport) -> None:
    print(f"{'':<12}{'from':<44}{'reaches (UTC)':<21}")
    for each in report.plan.stores:
        at = f"{each.reaches.astimezone(UTC):%F %T}" if each.reaches is not None else "as PostgreSQL's rows"
        print(f"{each.store:<12}{each.backup_id or 'copies by content':<44}{at}")
        if each.rpo_seconds is not None:
            print(
                f"{'':<12}{each.rpo_seconds / 60:,.1f} min lost, {each.stored_bytes >> 20:,} MiB stored,"
                f" {each.needed_bytes >> 20:,} MiB of room"
            )
    for warning in report.plan.warnings:
        wrapped(f"warning: {warning.what}")
    if not report.executed:
        for number, step in enumerate(report.plan.steps, start=1):
            wrapped(f"{number}. {step}")
        if not report.problems:
            print("--execute does it")
        return
    print(f"recovery {report.recovery}")
    if report.reached_at is not None:
        print(f"PostgreSQL came back up to the commit of {report.reached_at:%F %T} UTC")
    if report.canceled:
        print(f"{len(report.canceled)} runs of Dagster, which nobody serves any more, canceled")
    if report.resumed:
        print(f"done by an earlier call: {', '.join(report.resumed)}")
    wrapped(", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.done.items()))
    if report.settled is not None:
        show_settled(report.settled)
