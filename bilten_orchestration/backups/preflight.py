"""Whether a server is ready to be backed up: every prerequisite, met or not, with what mends it.

Reads only. What a backup itself refuses (its store's own module) is asked here before the night.
"""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.backups import plan
from bilten_orchestration.errors import Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class Requirement:
    """One prerequisite. `next` is the statement or setting that mends it; `needed_for` what fails without."""

    name: str
    met: bool
    expected: str
    found: str
    next: str = ""
    needed_for: str = ""

    def problem(self) -> Problem:
        return Problem(
            f"{self.name}: needed for {self.needed_for}" if self.needed_for else self.name,
            self.expected,
            self.found,
            self.next,
        )


@dataclass(frozen=True, slots=True)
class PreflightReport:
    store: str
    requirements: tuple[Requirement, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(each.problem() for each in self.requirements if not each.met)


def examine(settings: Settings, store: str, *, progress: Progress = silent) -> PreflightReport:
    """Every prerequisite of a store.

    Raises UsageError for a store that is not backed up, StoreUnavailable and AccessRefused when the server
    cannot be asked.
    """
    match plan.find(store, None).store:
        case "postgres":
            from bilten_orchestration.backups.postgres.preflight import requirements

            return PreflightReport(store, requirements(settings))
        case "redis":
            from bilten_orchestration.backups.redis.preflight import requirements as of_redis

            return PreflightReport(store, of_redis(settings))
        case "clickhouse":
            from bilten_orchestration.backups.clickhouse.preflight import requirements as of_clickhouse

            return PreflightReport(store, of_clickhouse(settings))
