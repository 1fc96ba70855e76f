"""`bilten wal stream|status|audit` and `bilten reach`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.cli.backup import size

if TYPE_CHECKING:
    from bilten_orchestration.backups.wal.status import WalStatus


def register(app: typer.Typer) -> None:
    wal = typer.Typer(help="PostgreSQL's WAL: taken, watched, audited.", no_args_is_help=True)
    wal.command("stream")(stream)
    wal.command("status")(status)
    app.add_typer(wal, name="wal")


def stream() -> None:
    """Take WAL into the repository, as it is written, until it is stopped. `bilten up` keeps one running."""
    with output.errors("wal stream"):
        import signal
        import threading

        from bilten_orchestration.backups.wal.stream import stream as take
        from bilten_orchestration.settings_loading import load_settings

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
        from bilten_orchestration.settings_loading import load_settings

        found, problems = statuses.read(statuses.place(load_settings()))
        output.finish(
            "wal status",
            found,
            as_json=as_json,
            problems=problems,
            human=lambda: _show_status(found),
        )


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
