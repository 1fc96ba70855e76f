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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Problem, Refused, UsageError
from bilten_orchestration.migrations import evidence, history, losses
from bilten_orchestration.migrations import execute as execution
from bilten_orchestration.migrations.files import SQL_ROOT, STORES, discover
from bilten_orchestration.migrations.history import LOCK
from bilten_orchestration.migrations.plan import Step, objections, plan_down, plan_up
from bilten_orchestration.migrations.reports import MigrationReport, ScriptRun
from bilten_orchestration.migrations.statements import Store
from bilten_orchestration.migrations.status import status as status
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse as clickhouse_store
from bilten_orchestration.stores import postgres as postgres_store
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

LOCK_WAIT_SECONDS = 600


def up(
    settings: Settings,
    *,
    store: Store | None = None,
    target: int | None = None,
    anew: bool = False,
    root: Path = SQL_ROOT,
    progress: Progress = silent,
) -> MigrationReport:
    """Apply what is pending, PostgreSQL first; `target` (inclusive) goes with one store.

    `anew` (ClickHouse only) begins from the first migration on an empty server that took the place of a
    lost one.

    Raises Refused (edited, missing, out of order, a ClickHouse that does not hold what was run on it:
    nothing touched), LockHeld, StoreUnavailable, or what the failed migration raised; those before it
    stay applied.
    """
    _check_one_store(store, target, anew)
    files = discover(root)
    stores = STORES if store is None else (store,)
    with _connected(settings) as connection, _locked(connection, progress):
        # a store that does not answer is found before the other one is touched
        client = clickhouse_store.connect(settings.clickhouse) if "clickhouse" in stores else None
        history.bootstrap(connection)
        records = history.read(connection)
        problems = [problem for of in stores for problem in objections(files, records, of)]
        if client is not None:
            expected = evidence.expected_databases(files["clickhouse"], records)
            if anew:
                evidence.refuse_unless_empty(client, expected)
            else:
                problems += evidence.objections(client, expected)
        if problems:
            raise Refused(problems)
        if anew:
            history.forget(connection, "clickhouse")
            records = history.read(connection)
        steps = [step for of in stores for step in plan_up(files, records, of, target)]
        return _run(connection, client, steps, progress)


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

    def plan(connection: Connection) -> Sequence[Step]:
        records = history.read(connection)
        problems = list(objections(files, records, store))
        if problems:
            raise Refused(problems)
        return plan_down(files, records, store, target)

    with _connected(settings) as connection:
        client = clickhouse_store.connect(settings.clickhouse) if store == "clickhouse" else None
        if not execute:
            return MigrationReport(
                False, tuple(_planned(connection, client, step) for step in plan(connection))
            )
        with _locked(connection, progress):
            return _run(connection, client, plan(connection), progress)


def _check_one_store(store: Store | None, target: int | None, anew: bool) -> None:
    problems = []
    if target is not None and store is None:
        problems.append(
            Problem(
                "a target version counts for one store",
                expected=" or ".join(STORES),
                found="both stores",
                next=f"bilten migrate up --store postgres --to {target}",
            )
        )
    if anew and store != "clickhouse":
        problems.append(
            Problem(
                "only ClickHouse can be begun anew: its rows come from PostgreSQL",
                expected="--store clickhouse",
                found=f"--store {store}" if store else "both stores",
                next="bilten migrate up --store clickhouse --anew",
            )
        )
    if problems:
        raise UsageError(problems)


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


def _run(
    connection: Connection, client: Client | None, steps: Sequence[Step], progress: Progress
) -> MigrationReport:
    def clickhouse(statement: str) -> object:
        if client is None:
            raise AssertionError("a ClickHouse migration was planned without its store")
        return client.command(statement)

    done = []
    for step in steps:
        seconds = execution.run(connection, step.migration, step.direction, clickhouse, progress)
        script = step.migration.script(step.direction)
        done.append(
            ScriptRun(
                step.migration.store,
                step.migration.version,
                step.migration.name,
                step.direction,
                len(script.statements),
                seconds,
            )
        )
    return MigrationReport(True, tuple(done))


def _planned(connection: Connection, client: Client | None, step: Step) -> ScriptRun:
    migration = step.migration
    statements = migration.script(step.direction).statements
    return ScriptRun(
        migration.store,
        migration.version,
        migration.name,
        step.direction,
        len(statements),
        seconds=None,
        preview=tuple(statement.title for statement in statements),
        rows_lost=(
            losses.of_clickhouse(client, statements) if client else losses.of_postgres(connection, statements)
        ),
    )
