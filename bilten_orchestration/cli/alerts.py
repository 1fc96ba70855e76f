"""`bilten serve` and `bilten alerts test|list`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.observability.listing import Alerts


def register(app: typer.Typer) -> None:
    alerts = typer.Typer(help="Incidents, and the messages about them.", no_args_is_help=True)
    alerts.command("test")(try_)
    alerts.command("list")(list_)
    app.add_typer(alerts, name="alerts")
    app.command("serve")(serve)


def serve() -> None:
    """Watch everything, tell people, answer questions about health, until it is stopped.

    `bilten up` keeps one running.
    """
    with output.errors("serve"):
        from bilten_orchestration.observability.serve import serve as run
        from bilten_orchestration.settings.loading import load_settings

        run(load_settings(), progress=output.say)


def try_(as_json: output.Json = False) -> None:
    """Send a test message to every receiver, now. Exits 1 when one did not take it."""
    with output.errors("alerts test", as_json=as_json):
        from bilten_orchestration.observability.listing import try_receivers
        from bilten_orchestration.settings.loading import load_settings

        found = try_receivers(load_settings(), progress=output.say)

        def show() -> None:
            for each in found.receivers:
                print(f"{each.receiver:<24} {'took it' if each.error is None else 'NOT DELIVERED'}")

        output.finish("alerts test", found, as_json=as_json, problems=found.problems, human=show)


def list_(
    days: Annotated[int, typer.Option("--days", min=0, max=90, help="Resolved ones of so many days.")] = 7,
    as_json: output.Json = False,
) -> None:
    """Open incidents and those of the last days, and messages that were not delivered.

    Exits 1 when an incident is open or a message could not be delivered.
    """
    with output.errors("alerts list", as_json=as_json):
        from bilten_orchestration.observability.listing import alerts
        from bilten_orchestration.settings.loading import load_settings

        found = alerts(load_settings(), days=days)
        output.finish(
            "alerts list",
            {"incidents": found.incidents, "undelivered": found.undelivered, "read_from": found.read_from},
            as_json=as_json,
            problems=found.problems,
            human=lambda: _show(found),
        )


def _show(found: Alerts) -> None:
    if not found.incidents:
        print("no incidents")
    else:
        print(f"{'OPENED (UTC)':<16} {'RECOVERED':<16} {'SEVERITY':<8}  WHAT")
    for each in found.incidents:
        resolved = "open" if each.resolved_at is None else f"{each.resolved_at:%Y-%m-%d %H:%M}"
        print(f"{each.opened_at:%Y-%m-%d %H:%M} {resolved:<16} {each.severity:<8}  {each.key}")
        for line in textwrap.wrap(each.problem.what, 76):
            print(f"    {line}")
    for message in found.undelivered:
        state = "given up" if message.given_up else f"tried {message.attempts} times"
        print(f"not delivered to {message.receiver}, {state}: {message.key}: {message.error}")
