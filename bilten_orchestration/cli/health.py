"""`bilten health`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bilten_orchestration.cli import output

_COLUMNS = 80
_ORDER = ("missed", "unknown", "not_yet", "kept")


def register(app: typer.Typer) -> None:
    app.command("health")(health)


def health(
    as_json: output.Json = False,
    proven: Annotated[
        bool, typer.Option("--proven", help="Exit 1 also for promises that have not been due yet.")
    ] = False,
) -> None:
    """Every store and every promise, as the watchdog knows them. Exits 1 when something is wrong, or nobody
    knows; 3 when the watchdog does not answer. What has not been due at a new installation is told, and is
    nothing wrong; with --proven it is: then 0 means that every promise is kept."""
    with output.errors("health", as_json=as_json):
        from bilten_orchestration.errors import Problem
        from bilten_orchestration.observability.asked import asked
        from bilten_orchestration.settings.loading import load_settings

        found = asked(load_settings())
        problems = [
            Problem(each["what"], each["expected"], each["found"], each["next"])
            for each in found["incidents"] or ()
        ]
        problems += [
            Problem(
                f"{each['name']} is {each['status']}",
                expected="ok",
                found=each["detail"] or "nothing",
                next="bilten alerts list",
            )
            for each in found["components"]
            if each["status"] in ("down", "unknown")
        ]
        wrong = ("missed", "unknown", *(["not_yet"] if proven else []))
        if broken := [each["name"] for each in found["promises"] if each["status"] in wrong]:
            problems.append(
                Problem(
                    f"{len(broken)} promises are not kept{', or not yet' if proven else ''}, or nobody knows",
                    expected="every promise kept",
                    found=", ".join(broken),
                    next="docs/operations.md says of each what to do",
                )
            )
        output.finish("health", found, as_json=as_json, problems=problems, human=lambda: _show(found))


def _show(found: dict[str, Any]) -> None:
    from bilten_orchestration.observability.units import number

    print(f"{found['status'].upper()} at {found['at'][:19].replace('T', ' ')} UTC\n")
    wide = max((len(each["name"]) for each in found["components"]), default=0)
    for each in found["components"]:
        print(f"{each['name']:<{wide}} {each['status']:<8} {each['detail'] or ''}"[:_COLUMNS].rstrip())
    print()
    wide = max((len(each["name"]) for each in found["promises"]), default=0)
    for each in sorted(found["promises"], key=lambda each: _ORDER.index(each["status"])):
        value = "" if each["value"] is None else number(each["value"], each["unit"], named=False)
        promised = f"{'>=' if each['least'] else '<='} {number(each['limit'], each['unit'])}"
        print(f"{each['name']:<{wide}} {each['status'].replace('_', ' '):<7} {value:>9}  {promised}")
    if early := found["counts"]["not_yet"]:
        print(f"\n{early} promises have not been due yet: nothing is wrong, and nothing is proven.")
