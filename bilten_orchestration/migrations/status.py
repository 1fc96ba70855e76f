"""Where every migration stands; reads only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bilten_orchestration.errors import LockHeld, Problem
from bilten_orchestration.migrations import history
from bilten_orchestration.migrations.files import SQL_ROOT, STORES, Migration, discover
from bilten_orchestration.migrations.plan import objections
from bilten_orchestration.migrations.reports import MigrationState, State, StatusReport
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection


def status(settings: Settings, *, root: Path = SQL_ROOT) -> StatusReport:
    """Where every migration stands; reads only, also where none was ever run. Needs PostgreSQL alone."""
    files = discover(root)
    with postgres.connect(
        settings.postgres, application_name="bilten migrate", autocommit=True
    ) as connection:
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


def _running_now(connection: Connection) -> str | None:
    """Who holds the lock, if anybody does."""
    try:
        with advisory_lock(connection, history.LOCK, shared=True):
            return None
    except LockHeld as held:
        return held.problems[0].found


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
