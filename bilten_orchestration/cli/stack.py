"""`bilten up|down|status|logs|env`."""

from __future__ import annotations

import textwrap
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.local.status import StackStatus
    from bilten_orchestration.local.up import UpReport


class RoleChoice(StrEnum):
    """Whom to connect as."""

    owner = "owner"
    etl = "etl"
    readonly = "readonly"


def register(app: typer.Typer) -> None:
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("env")(env)


def up(
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Fill an empty database with demo data.")
    ] = True,
    scale: Annotated[
        float, typer.Option(min=0.01, max=100, help="Size of the demo data; 1 is 120,000 orders.")
    ] = 1.0,
    as_json: output.Json = False,
) -> None:
    """Start what has no address, migrate, load demo data, sync, build the last 30 days, index events."""
    with output.errors("up", as_json=as_json):
        from dataclasses import asdict

        from bilten_orchestration.local import up as engine

        report = engine.up(with_demo=demo, scale=scale, progress=output.say)
        failed = report.failed
        output.finish(
            "up",
            asdict(report) | {"failed": failed and {"phase": failed.phase, "seconds": failed.seconds}},
            as_json=as_json,
            problems=failed.problems if failed else (),
            human=lambda: _show_up(report),
            exit_code=failed.exit_code if failed else 1,
        )


def down(as_json: output.Json = False) -> None:
    """Stop this checkout's servers, and only these; data stay."""
    with output.errors("down", as_json=as_json):
        from bilten_orchestration.file_lock import exclusive
        from bilten_orchestration.local.layout import layout
        from bilten_orchestration.local.supervision import Supervisor
        from bilten_orchestration.settings.loading import home_directory

        places = layout(home_directory())
        with exclusive(places.lock, "down", output.say):
            output.say("stopping")
            stopped = Supervisor(places).shut_down()
        text = (
            f"stopped {', '.join(stopped)}; data stay in {places.home}" if stopped else "nothing was running"
        )
        output.finish("down", {"stopped": stopped}, as_json=as_json, human=lambda: print(text))


def status(as_json: output.Json = False) -> None:
    """Each server: pid, memory, uptime, address, and whether it answers. Exits 1 when one does not."""
    with output.errors("status", as_json=as_json):
        from bilten_orchestration.local import status as engine

        report = engine.status()
        output.finish(
            "status",
            {"programs": report.programs, "memory_bytes": report.memory_bytes, "notes": report.notes},
            as_json=as_json,
            problems=report.problems,
            human=lambda: _show_status(report),
        )


def logs(
    name: Annotated[str, typer.Argument(help="A server, as `bilten status` names it, or supervisord.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 100,
) -> None:
    """The log of one server."""
    with output.errors("logs"):
        import os

        from bilten_orchestration.errors import UsageError
        from bilten_orchestration.local.layout import layout
        from bilten_orchestration.settings.loading import home_directory

        places = layout(home_directory())
        known = sorted(file.stem for file in places.logs.glob("*.log"))
        if name not in known:
            raise UsageError(
                f"there is no log of {name}",
                expected=", ".join(known) or "bilten up, first",
                found=name,
                next="bilten status",
            )
        # tail follows through rotation (-F)
        words = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(places.log(name))]
        os.execvp("tail", words)  # noqa: S606, S607


def env(
    role: Annotated[RoleChoice, typer.Option(help="Whom to connect as.")] = RoleChoice.owner,
    as_json: output.Json = False,
) -> None:
    """Shell exports to connect with any client: eval "$(bilten env)". Prints secrets."""
    with output.errors("env", as_json=as_json):
        import shlex

        from bilten_orchestration.local.exports import exports
        from bilten_orchestration.settings.loading import load_settings

        variables = exports(load_settings(), role.value)

        def show() -> None:
            for name, value in variables.items():
                print(f"export {name}={shlex.quote(value)}")

        output.finish("env", variables, as_json=as_json, human=show)


def _show_up(report: UpReport) -> None:
    if report.failed is not None:
        print(f"\nBilten is not up: {report.failed.phase} failed. `bilten up` goes on there.\n")
        return
    as_before = "" if any(phase.changed for phase in report.phases) else ", and nothing was changed"
    took = f"{report.seconds:.0f} s, {_mebibytes(report.memory_bytes)} of memory"
    print(f"\nBilten is up{as_before} ({took})\n")
    for name, address in {**report.addresses, "credentials": report.credentials}.items():
        print(f"  {name:<13} {address}")
    print(f"  {'backup keys':<13} {report.backup_keys}")
    print(" " * 16 + "no backup can be read without this file: keep a copy elsewhere")
    for note in report.notes:
        print(_note(note, "  note          "))
    search = """\
  what people find:
    .venv/bin/bilten search query "jazz" --price EUR::50
"""
    found = search if "opensearch" in report.addresses else ""
    print(
        f"""
{"Four" if found else "Three"} things to try

  the graph, from table to mart:
    {report.ui}/asset-groups
  what was sold, by day and currency:
    .venv/bin/bilten sql "
      select metric_date, currency, sum(gross_sales) as sales
      from marts.fct_event_sales_daily
      group by all order by all desc limit 5"
{found}  psql, redis-cli or any other client, connected:
    eval "$(.venv/bin/bilten env)"
"""
    )


def _note(text: str, before: str) -> str:
    """Within 80 columns; an address stays whole."""
    return textwrap.fill(
        text,
        80,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _show_status(report: StackStatus) -> None:
    rows = [("server", "address", "pid", "up", "memory", "health")]
    rows += [
        (
            program.name,
            program.where,
            str(program.pid or ""),
            _duration(program.uptime_seconds),
            _mebibytes(program.memory_bytes),
            program.health
            if program.state in ("RUNNING", "OUTSIDE")
            else f"{program.state}: {program.health}",
        )
        for program in report.programs
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        # numbers to the right
        cells = [
            cell.rjust(width) if number in (2, 3, 4) else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    print(f"\n{_mebibytes(report.memory_bytes)} in all")
    for note in report.notes:
        print(_note(note, "note  "))


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _mebibytes(size: int | None) -> str:
    return "" if size is None else f"{size / (1 << 20):,.0f} MiB"
