"""What the runner tells: frozen, printed by the CLI, asserted on by tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from bilten_orchestration.errors import Problem
from bilten_orchestration.migrations.files import Direction
from bilten_orchestration.migrations.statements import Store

State = Literal["pending", "applied", "running", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """One script: run, or only planned.

    Planned: `seconds` is None, `preview` has the first words of its statements, `rows_lost` the tables it
    drops with the rows in them.
    """

    store: Store
    version: int
    name: str
    direction: Direction
    statements: int
    seconds: float | None
    preview: tuple[str, ...] = ()
    rows_lost: Mapping[str, int] = field(default_factory=dict)


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
