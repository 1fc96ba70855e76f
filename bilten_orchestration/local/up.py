"""`bilten up`: from nothing, or from whatever a kill left, to yesterday's numbers.

    settings     all problems at once, before anything is touched; outside stores are checked
    servers      what has no address is started (servers.py)
    migrate, demo                       (phases.py)
    dagster      its services answer
    sync, metrics                       as Dagster runs, so that the UI shows them (phases.py, runs.py)

Every phase asks what is there before it does anything, so that a second run changes nothing and an
interrupted one goes on where it must.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from bilten_orchestration.errors import Refused
from bilten_orchestration.local import dagster_services, endpoints, outside, phases, runs, servers
from bilten_orchestration.local.layout import layout
from bilten_orchestration.local.lock import exclusive
from bilten_orchestration.local.supervision import Supervisor
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings, home_directory, load_settings

LINE_SECONDS = 1.0
PHASES = ("settings", "servers", "migrate", "demo", "dagster", "sync", "metrics")


@dataclass(frozen=True, slots=True)
class Phase:
    """`outcome` in a few words; `changed` is false where there was nothing to do."""

    name: str
    seconds: float
    outcome: str
    changed: bool


@dataclass(frozen=True, slots=True)
class UpReport:
    """`ports` by program; `credentials` is the file that holds the generated secrets."""

    ui: str
    ports: dict[str, int]
    credentials: str
    phases: tuple[Phase, ...]
    notes: tuple[str, ...]
    seconds: float


def up(
    *, with_demo: bool = True, scale: float = 1.0, today: date | None = None, progress: Progress = silent
) -> UpReport:
    """Bring everything up. Raises the BiltenError of the phase that fails; those before it stay done."""
    begun = time.monotonic()
    done: list[Phase] = []

    told = 0.0

    def detail(text: str) -> None:
        progress(f"      {text}")

    def engine(text: str) -> None:
        # dbt alone says several lines a second
        nonlocal told
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            detail(text)

    def phase(work: Callable[[], phases.Outcome]) -> bool:
        name = PHASES[len(done)]
        started = time.monotonic()
        progress(f"[{len(done) + 1}/{len(PHASES)}] {name}")
        outcome, changed = work()
        done.append(Phase(name, round(time.monotonic() - started, 2), outcome, changed))
        detail(f"{outcome} ({done[-1].seconds:.1f} s)")
        return changed

    given = load_settings(embedded=False)
    places = layout(home_directory())
    supervisor = Supervisor(places)
    with exclusive(places.lock, "up", progress):
        phase(lambda: _check(given))
        running = servers.Started(given, ())

        def start() -> phases.Outcome:
            nonlocal running
            running = servers.start(places, given, supervisor, detail)
            names = running.started
            return (f"started {', '.join(names)}" if names else "all were running", bool(names))

        def load() -> phases.Outcome:
            if not with_demo:
                return "not wanted", False
            return phases.demo(settings, scale=scale, today=today, progress=engine)

        phase(start)
        settings = running.settings
        phase(lambda: phases.migrate(settings, engine))
        loaded = phase(load)
        phase(lambda: _dagster(settings, supervisor))
        days = phases.missing_days(settings, today)
        phase(lambda: phases.sync(settings, ui(settings), needed=loaded or days is not None, progress=engine))
        phase(lambda: phases.metrics(days, ui(settings), places.home / "metrics-unfinished", engine))
    return UpReport(
        ui=ui(settings),
        ports={program.name: program.port for program in running.programs if program.port},
        credentials=str(places.stack_env),
        phases=tuple(done),
        notes=running.notes,
        seconds=round(time.monotonic() - begun, 1),
    )


def ui(settings: Settings) -> str:
    """Where people find Dagster."""
    return settings.dagster.url or f"http://{settings.dagster.host}:{settings.dagster.port}"


def _check(given: Settings) -> phases.Outcome:
    problems = outside.problems(given)
    if problems:
        raise Refused(problems)
    own = endpoints.embedded(given)
    others = [store for store in endpoints.STORES if store not in own]
    return f"embedded: {', '.join(own) or 'none'}; by address: {', '.join(others) or 'none'}", False


def _dagster(settings: Settings, supervisor: Supervisor) -> phases.Outcome:
    servers.await_dagster(settings, supervisor)
    runs.await_location(ui(settings), servers.DAGSTER_SECONDS)
    return f"code location {dagster_services.LOCATION} is loaded", False
