"""What runs, how long, with how much memory, and whether it does its work (asked by a real request)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.local import (
    addresses,
    endpoints,
    processes,
    servers,
    stack_env,
    wal_stream,
    watchdog,
)
from bilten_orchestration.local.layout import layout
from bilten_orchestration.local.ports import LOOPBACK
from bilten_orchestration.local.supervision import State, Supervisor
from bilten_orchestration.settings.loading import home_directory, load_settings


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """One server. `where` is its address; pid, memory and uptime are None for a server that is not ours
    or does not run. `health` is what it answered, or what is wrong."""

    name: str
    state: str
    where: str
    pid: int | None
    uptime_seconds: int | None
    memory_bytes: int | None
    ok: bool
    health: str


@dataclass(frozen=True, slots=True)
class StackStatus:
    """`memory_bytes` is the sum over our own programs, supervisord included; `notes` what `up` left out."""

    programs: tuple[ProgramStatus, ...]
    memory_bytes: int
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def status() -> StackStatus:
    """All programs of the stack and the outside stores. Raises SettingsError only."""
    given, settings = load_settings(embedded=False), load_settings()
    places = layout(home_directory())
    supervisor = Supervisor(places)
    known = supervisor.states() if supervisor.answers() else {}
    ports = endpoints.recorded_ports(stack_env.read(places.stack_env))
    own = endpoints.embedded(given)

    checks: dict[str, partial[str]] = {}
    wanted = endpoints.wanted(settings)
    for store in wanted:
        checks[servers.PROGRAM_OF[store]] = partial(servers.CHECK_OF[store], settings)
    places_of = addresses.of_stores(settings)
    outside = {
        servers.PROGRAM_OF[store]: places_of[servers.PROGRAM_OF[store]]
        for store in wanted
        if store not in own
    }
    checks |= {name: partial(check) for name, check in servers.dagster_checks(settings).items()}
    if "postgres" in own:
        checks[wal_stream.NAME] = partial(wal_stream.check, settings)
    checks[watchdog.NAME] = partial(watchdog.check, settings)

    problems: list[Problem] = []

    def look(name: str) -> ProgramStatus:
        state = known.get(name, State(name, "NOT STARTED", 0, 0, ""))
        found: tuple[Problem, ...] = ()
        if name not in outside and not state.running:
            said = state.description or "not started"
            found = (
                Problem(
                    f"{name} does not run",
                    "RUNNING",
                    f"{state.state}: {said}",
                    f"bilten up; bilten logs {name}",
                ),
            )
        else:
            try:
                said = checks[name]()
            except BiltenError as error:
                found = error.problems
                said = found[0].what
        problems.extend(found)
        running = state.pid != 0 and name not in outside
        where = outside.get(name) or (f"{LOOPBACK}:{ports[name]}" if name in ports else "")
        return ProgramStatus(
            name=name,
            state="OUTSIDE" if name in outside else state.state,
            where=where,
            pid=state.pid if running else None,
            uptime_seconds=max(0, int(time.time()) - state.since) if running else None,
            memory_bytes=processes.memory_bytes(state.pid) if running else None,
            ok=not found,
            health=said,
        )

    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        programs = tuple(pool.map(look, checks))
    return StackStatus(
        programs,
        processes.stack_memory_bytes(places.supervisor_configuration),
        servers.not_had(settings),
        tuple(problems),
    )
