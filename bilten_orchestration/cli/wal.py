"""`bilten wal stream|status|audit` and `bilten reach`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import BucketChoice, FromBucket, size

if TYPE_CHECKING:
    from bilten_orchestration.backups.wal.audit import AuditReport
    from bilten_orchestration.backups.wal.reach import ReachReport
    from bilten_orchestration.backups.wal.status import WalStatus


def register(app: typer.Typer) -> None:
    wal = typer.Typer(help="PostgreSQL's WAL: taken, watched, audited.", no_args_is_help=True)
    wal.command("stream")(stream)
    wal.command("status")(status)
    wal.command("audit")(audit)
    app.add_typer(wal, name="wal")
    app.command("reach")(reach)


def stream() -> None:
    """Take WAL into the repository, as it is written, until it is stopped. `bilten up` keeps one running."""
    with output.errors("wal stream"):
        import signal
        import threading

        from bilten_orchestration.backups.wal.stream import stream as take
        from bilten_orchestration.settings.loading import load_settings

        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        take(load_settings(), stop, progress=output.say)


def status(as_json: output.Json = False) -> None:
    """Until when PostgreSQL can be restored at this moment, and what is wrong with taking its WAL.

    Exits 1 when anything is.
    """
    with output.errors("wal status", as_json=as_json):
        from bilten_orchestration.backups.wal import status as statuses
        from bilten_orchestration.settings.loading import load_settings

        found, problems = statuses.read(statuses.place(load_settings()))
        output.finish(
            "wal status",
            found,
            as_json=as_json,
            problems=problems,
            human=lambda: _show_status(found),
        )


def audit(
    deep: Annotated[bool, typer.Option("--deep", help="Decrypt everything, not only what is new.")] = False,
    bucket: FromBucket = BucketChoice.first,
    as_json: output.Json = False,
) -> None:
    """Whether all WAL that a restore may need is in the repository, without a gap, and whole.

    Exits 1 when it is not.
    """
    with output.errors("wal audit", as_json=as_json):
        from bilten_orchestration.backups.wal.audit import audit as examine
        from bilten_orchestration.settings.loading import load_settings

        report = examine(load_settings(), deep=deep, bucket=bucket.value, progress=output.say)
        output.finish(
            "wal audit",
            {
                "bucket": report.bucket,
                "from": report.begin,
                "to": report.to,
                "timeline": report.timeline,
                "segments": report.segments,
                "read": report.read,
                "gaps": report.gaps,
            },
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_audit(report),
        )


def reach(as_json: output.Json = False) -> None:
    """Every moment that PostgreSQL can be restored to, from which bucket, and whether a drill has proved it.

    Exits 1 when a bucket cannot be read, or holds what cannot be believed.
    """
    with output.errors("reach", as_json=as_json):
        from bilten_orchestration.backups.wal.reach import reach as look
        from bilten_orchestration.settings.loading import load_settings

        report = look(load_settings())
        output.finish(
            "reach",
            {
                "timeline": report.timeline,
                "spans": [
                    {
                        "from": each.begin,
                        "to": each.to,
                        "bucket": each.bucket,
                        "timeline": each.timeline,
                        "key_id": each.key_id,
                        "proven": each.proven,
                        "backups": each.backups,
                    }
                    for each in report.spans
                ],
            },
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_reach(report),
        )


def _show_audit(report: AuditReport) -> None:
    if report.begin is not None and report.to is not None:
        print(f"{report.bucket}, timeline {report.timeline}: {report.begin:%F %T} to {report.to:%F %T} UTC")
    print(f"{report.segments:,} segments, {len(report.gaps)} gaps, {report.read:,} objects read now")


def _show_reach(report: ReachReport) -> None:
    if not report.spans:
        print("nothing can be restored yet; take a backup: bilten backup create postgres")
        return
    width = max(len(each.bucket) for each in report.spans)
    print(f"{'BUCKET':<{width}}  {'TL':>2}  {'FROM (UTC)':<19}  {'TO (UTC)':<19}  IS")
    for each in report.spans:
        proven = "proven" if each.proven else "assumed"
        print(f"{each.bucket:<{width}}  {each.timeline:>2}  {each.begin:%F %T}  {each.to:%F %T}  {proven}")


def _show_status(found: WalStatus | None) -> None:
    if found is None:
        return
    print(f"{found.state}, as of {found.at:%F %T} UTC, pid {found.pid}")
    if found.shipped is not None and found.shipped_at is not None:
        print(f"shipped up to {found.shipped}, timeline {found.timeline}, at {found.shipped_at:%T}")
    print(f"spool: {size(found.spool_bytes)} of {size(found.spool_limit_bytes)}")
    for each in found.buckets:
        if each.reachable_until is None:
            print(f"{each.bucket}: no heartbeat in it yet")
        else:
            print(
                f"{each.bucket}: restorable until {each.reachable_until:%F %T} UTC, "
                f"{each.rpo_seconds or 0:.0f} s ago"
            )
