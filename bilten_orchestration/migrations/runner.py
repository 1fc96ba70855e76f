"""up, down and status of the migrations of both stores.

One runner at a time (advisory lock `migrations`, on the connection that also writes the history, so
that a lost connection loses both). Everything that speaks against a run is found before the first
statement. What a kill leaves behind:

    after `running` is committed   PostgreSQL rolls the migration back; ClickHouse and files under
                                   `transaction: none` stop between two statements, each of which may
                                   be repeated. The record says `running`; the next run, holding the
                                   lock, knows that its runner is dead and runs the file again.
    between statements             the same
    after the last statement       PostgreSQL: statements and `completed` are one commit; ClickHouse: as above
    during a down                  the same with `reverting`: a transactional one is still applied,
                                   another one is run again, down or up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bilten_orchestration.errors import LockHeld, Problem, Refused, UsageError
from bilten_orchestration.migrations import execute as execution
from bilten_orchestration.migrations import history
from bilten_orchestration.migrations.files import SQL_ROOT, STORES, Direction, Migration, discover
from bilten_orchestration.migrations.plan import Files, Step, objections, plan_down, plan_up
from bilten_orchestration.migrations.statements import Store
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import ClickHouseSettings, Settings
from bilten_orchestration.stores import clickhouse as clickhouse_store
from bilten_orchestration.stores import postgres as postgres_store
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

LOCK = "migrations"
LOCK_WAIT_SECONDS = 600

State = Literal["pending", "applied", "running", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """One script: planned (`seconds` is None) or run. `statements` are their first words."""

    store: Store
    version: int
    name: str
    direction: Direction
    statements: tuple[str, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """`executed` is false for a preview; `steps` is empty where there was nothing to do."""

    executed: bool
    steps: tuple[ScriptRun, ...]


@dataclass(frozen=True, slots=True)
class MigrationState:
    """Where one migration stands; times are those of the last attempt, UTC."""

    store: Store
    version: int
    name: str
    description: str
    state: State
    started_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True)
class StatusReport:
    """`problems`: what failed or was interrupted, with the next step, and what would refuse a run."""

    migrations: tuple[MigrationState, ...]
    problems: tuple[Problem, ...]

    @property
    def pending(self) -> int:
        return sum(migration.state == "pending" for migration in self.migrations)


def up(
    settings: Settings,
    *,
    store: Store | None = None,
    target: int | None = None,
    root: Path = SQL_ROOT,
    progress: Progress = silent,
) -> MigrationReport:
    """Apply what is pending, PostgreSQL first; `target` (inclusive) goes with one store.

    Raises Refused (edited, missing, out of order: nothing touched), LockHeld, StoreUnavailable, or what
    the failed migration raised; those before it stay applied.
    """
    if target is not None and store is None:
        raise UsageError(
            "a target version counts for one store",
            expected=" or ".join(STORES),
            found="both stores",
            next=f"bilten migrate up --store postgres --to {target}",
        )
    files = discover(root)
    with _connected(settings) as connection, _locked(connection, progress):
        history.bootstrap(connection)
        stores = STORES if store is None else (store,)
        steps = _plan(connection, files, stores, lambda records, of: plan_up(files, records, of, target))
        return _run(connection, settings, steps, progress)


def down(
    settings: Settings,
    *,
    store: Store,
    target: int,
    execute: bool = False,
    root: Path = SQL_ROOT,
    progress: Progress = silent,
) -> MigrationReport:
    """Take back everything above `target`, newest first; without `execute` only say what that would be.

    Raises as `up` does.
    """
    files = discover(root)

    def steps(connection: Connection) -> list[Step]:
        return _plan(connection, files, (store,), lambda records, of: plan_down(files, records, of, target))

    with _connected(settings) as connection:
        if not execute:
            return MigrationReport(False, tuple(_script_run(step, None) for step in steps(connection)))
        with _locked(connection, progress):
            return _run(connection, settings, steps(connection), progress)


def status(settings: Settings, *, root: Path = SQL_ROOT) -> StatusReport:
    """Where every migration stands; reads only, also where none was ever run."""
    files = discover(root)
    with _connected(settings) as connection:
        records = history.read(connection)
        runner = _running_now(connection)
    states = [
        _state(migration, records.get((store, migration.version)), runner)
        for store in STORES
        for migration in files[store]
    ]
    problems = [problem for state in states for problem in _unfinished(state)]
    problems += [problem for store in STORES for problem in objections(files, records, store)]
    return StatusReport(tuple(states), tuple(problems))


@contextmanager
def _connected(settings: Settings) -> Iterator[Connection]:
    connection = postgres_store.connect(settings.postgres, application_name="bilten migrate", autocommit=True)
    with connection:
        yield connection


@contextmanager
def _locked(connection: Connection, progress: Progress) -> Iterator[None]:
    def waiting(holders: str) -> None:
        progress(f"another migration runner is at work, waiting up to {LOCK_WAIT_SECONDS} s: {holders}")

    with advisory_lock(connection, LOCK, wait_seconds=LOCK_WAIT_SECONDS, on_wait=waiting):
        yield


def _running_now(connection: Connection) -> str | None:
    """Who holds the lock, if anybody does."""
    try:
        with advisory_lock(connection, LOCK, shared=True):
            return None
    except LockHeld as held:
        return held.problems[0].found


def _plan(
    connection: Connection,
    files: Files,
    stores: Sequence[Store],
    plan: Callable[[history.History, Store], Sequence[Step]],
) -> list[Step]:
    records = history.read(connection)
    problems = [problem for store in stores for problem in objections(files, records, store)]
    if problems:
        raise Refused(problems)
    return [step for store in stores for step in plan(records, store)]


def _run(
    connection: Connection, settings: Settings, steps: Sequence[Step], progress: Progress
) -> MigrationReport:
    clickhouse = _LazyClickHouse(settings.clickhouse)
    if any(step.migration.store == "clickhouse" for step in steps):
        clickhouse.client()  # a store that does not answer is found before the other one is touched
    done = []
    for step in steps:
        seconds = execution.run(connection, step.migration, step.direction, clickhouse.command, progress)
        done.append(_script_run(step, seconds))
    return MigrationReport(True, tuple(done))


class _LazyClickHouse:
    """Connected when first needed: PostgreSQL alone can be migrated without it."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    def client(self) -> Client:
        if self._client is None:
            self._client = clickhouse_store.connect(self._settings)
        return self._client

    def command(self, statement: str) -> object:
        return self.client().command(statement)


def _script_run(step: Step, seconds: float | None) -> ScriptRun:
    migration = step.migration
    titles = tuple(statement.title for statement in migration.script(step.direction).statements)
    return ScriptRun(migration.store, migration.version, migration.name, step.direction, titles, seconds)


def _state(migration: Migration, record: history.Record | None, runner: str | None) -> MigrationState:
    state: State
    match record.status if record else None:
        case None | "reverted":
            state = "pending"
        case "completed":
            state = "applied"
        case "failed" | "revert_failed":
            state = "failed"
        case _:
            state = "running" if runner else "interrupted"
    return MigrationState(
        migration.store,
        migration.version,
        migration.name,
        migration.description,
        state,
        record.started_at if record else None,
        record.completed_at if record else None,
        record.failed_at if record else None,
        record.error if record else None,
    )


def _unfinished(state: MigrationState) -> Iterator[Problem]:
    label = f"{state.store} V{state.version:04d} {state.name}"
    if state.state == "failed":
        yield Problem(
            f"{label} failed",
            expected="completed",
            found=state.error or "no reason recorded",
            next="correct the cause or the file, then run bilten migrate up (or down) again",
        )
    if state.state == "interrupted":
        yield Problem(
            f"{label} was interrupted",
            expected="completed, or a runner that holds the lock",
            found=f"begun {state.started_at:%F %T} UTC, and its runner is gone",
            next="bilten migrate up (or down) runs it again",
        )
