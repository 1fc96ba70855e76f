"""`bilten up`: from nothing, or from whatever a kill left, to yesterday's numbers.

    settings     all problems at once, before anything is touched; outside stores are checked
    servers      what has no address is started (servers.py)
    migrate, demo                       (phases.py)
    dagster      its services answer
    sync, metrics, search               as Dagster runs, so that the UI shows them (phases.py, runs.py)

Every phase asks what is there before it does anything, so that a second run changes nothing and an
interrupted one goes on where it must.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.errors import BiltenError, Problem, Refused
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.local import (
    addresses,
    dagster_services,
    endpoints,
    outside,
    phases,
    processes,
    runs,
    servers,
    wal_stream,
    watchdog,
)
from bilten_orchestration.local.layout import Layout, layout
from bilten_orchestration.local.supervision import Supervisor
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import home_directory, load_settings

LINE_SECONDS = 1.0
COLUMNS, INDENT, NO_BREAK = 80, " " * 6, "\u00a0"
PHASES = ("settings", "servers", "migrate", "demo", "dagster", "sync", "metrics", "search")


@dataclass(frozen=True, slots=True)
class Phase:
    """`outcome` in a few words; `changed` is false where there was nothing to do."""

    name: str
    seconds: float
    outcome: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The phase that `up` could not finish; part of it may be done."""

    phase: str
    seconds: float
    problems: tuple[Problem, ...]
    exit_code: int


@dataclass(frozen=True, slots=True)
class UpReport:
    """`phases` are those that came to their good end, `failed` the one that did not.

    `ui` is where people find Dagster; `ports` by embedded program and `addresses` of every server, both
    empty when the phase `servers` was not reached; `credentials` is the file of the generated secrets,
    `backup_keys` that of the keys that backups are encrypted under (made by the first backup);
    `memory_bytes` what all programs of the stack take at the end.
    """

    ui: str
    ports: dict[str, int]
    addresses: dict[str, str]
    credentials: str
    backup_keys: str
    phases: tuple[Phase, ...]
    failed: Failure | None
    notes: tuple[str, ...]
    seconds: float
    memory_bytes: int


def up(
    *, with_demo: bool = True, scale: float = 1.0, today: date | None = None, progress: Progress = silent
) -> UpReport:
    """Bring everything up. A phase that fails is in the report, and those before it stay done.

    Raises SettingsError, Refused (a state directory that is not ours) and LockHeld, before the first phase.
    """
    begun = time.monotonic()
    given = load_settings(embedded=False)
    places = layout(home_directory())
    with exclusive(places.lock, "up", progress):
        course = _Course(places, given, progress)
        failed = course.run(with_demo=with_demo, scale=scale, today=today)
    servers_up = course.running
    return UpReport(
        ui=addresses.ui(servers_up.settings),
        ports={program.name: program.port for program in servers_up.programs if program.port}
        | ({watchdog.NAME: servers_up.settings.serve.port} if servers_up.programs else {}),
        addresses=addresses.of_servers(servers_up.settings) if servers_up.programs else {},
        credentials=str(places.stack_env),
        backup_keys=str(key_file(servers_up.settings)),
        phases=tuple(course.done),
        failed=failed,
        notes=servers_up.notes,
        seconds=round(time.monotonic() - begun, 1),
        memory_bytes=processes.stack_memory_bytes(places.supervisor_configuration),
    )


class _Course:
    """One `up`: how far it has come."""

    def __init__(self, places: Layout, given: Settings, progress: Progress) -> None:
        self.done: list[Phase] = []
        self.running = servers.Started(given)
        self._places, self._given, self._progress = places, given, progress
        self._supervisor = Supervisor(places)
        self._told = self._began = 0.0

    def run(self, *, with_demo: bool, scale: float, today: date | None) -> Failure | None:
        try:
            self._phases(with_demo, scale, today)
        except BiltenError as error:
            return Failure(
                PHASES[len(self.done)],
                round(time.monotonic() - self._began, 2),
                error.problems,
                error.exit_code,
            )
        return None

    def _phases(self, with_demo: bool, scale: float, today: date | None) -> None:
        self._phase(lambda: _check(self._given))
        self._phase(self._start)
        settings, engine = self.running.settings, self._engine
        web = addresses.webserver(settings)
        self._phase(lambda: self._migrate(settings))
        loaded = self._phase(
            lambda: (
                phases.demo(settings, scale=scale, today=today, progress=engine)
                if with_demo
                else ("not wanted", False)
            )
        )
        self._phase(lambda: _dagster(settings, self._supervisor))
        days = phases.missing_days(settings, today)
        self._phase(lambda: phases.sync(settings, web, needed=loaded or days is not None, progress=engine))
        unfinished = self._places.home / "metrics-unfinished"
        self._phase(lambda: phases.metrics(days, web, unfinished, engine))
        self._phase(lambda: phases.search(settings, web, engine))

    def _phase(self, work: Callable[[], phases.Outcome]) -> bool:
        name = PHASES[len(self.done)]
        self._began = time.monotonic()
        self._progress(f"[{len(self.done) + 1}/{len(PHASES)}] {name}")
        outcome, changed = work()
        self.done.append(Phase(name, round(time.monotonic() - self._began, 2), outcome, changed))
        self._detail(f"{outcome} ({self.done[-1].seconds:.1f}{NO_BREAK}s)")
        return changed

    def _start(self) -> phases.Outcome:
        self.running = servers.start(self._places, self._given, self._supervisor, self._detail)
        return str(self.running), self.running.changed

    def _migrate(self, settings: Settings) -> phases.Outcome:
        outcome = phases.migrate(settings, self._engine)
        if "postgres" in endpoints.embedded(self._given):
            wal_stream.start(self._supervisor, settings)
        watchdog.start(self._supervisor, settings)
        return outcome

    def _detail(self, text: str) -> None:
        for line in textwrap.wrap(
            text, COLUMNS - len(INDENT), break_long_words=False, break_on_hyphens=False
        ):
            self._progress(INDENT + line.replace(NO_BREAK, " "))

    def _engine(self, text: str) -> None:
        # dbt alone says several lines a second
        if time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            self._detail(text)


def _check(given: Settings) -> phases.Outcome:
    problems = outside.problems(given)
    if problems:
        raise Refused(problems)
    own = endpoints.embedded(given)
    others = [store for store in endpoints.wanted(given) if store not in own]
    return f"embedded: {', '.join(own) or 'none'}; by address: {', '.join(others) or 'none'}", False


def _dagster(settings: Settings, supervisor: Supervisor) -> phases.Outcome:
    servers.await_dagster(settings, supervisor)
    runs.await_location(addresses.webserver(settings), servers.DAGSTER_SECONDS)
    return f"code location {dagster_services.LOCATION} is loaded", False
