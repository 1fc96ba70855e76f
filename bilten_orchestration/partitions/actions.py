"""What a plan consists of, whichever store it is for, and what hinders it.

How it comes about say postgres/plan.py, clickhouse/plan.py and archive_retention.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bilten_orchestration.errors import Problem

ActionName = Literal["create", "finalize", "detach", "archive", "drop", "expire", "keep"]


@dataclass(frozen=True, slots=True)
class Action:
    """One step. `partition` is schema.name; bounds in UTC (None: unbounded). `case` is the rule in the
    store's plan.py or in archive_retention.py; `archive` the document that a drop or an expiry relies on."""

    table: str
    partition: str
    action: ActionName
    reason: str
    from_at: datetime | None
    to_at: datetime | None
    case: int
    rows: int | None = None
    bytes: int | None = None
    archive: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """`actions` in the order in which they are done; `problems` are what hinders, all of them."""

    actions: tuple[Action, ...]
    problems: tuple[Problem, ...]

    @property
    def changes(self) -> tuple[Action, ...]:
        return tuple(action for action in self.actions if action.action != "keep")

    @classmethod
    def joined(cls, plans: Sequence[Plan]) -> Plan:
        return cls(
            tuple(action for plan in plans for action in plan.actions),
            tuple(problem for plan in plans for problem in plan.problems),
        )


@dataclass(frozen=True, slots=True)
class Done:
    """One action that was carried out. `archive` is the document that it wrote or relied on."""

    action: Action
    seconds: float
    rows: int | None = None
    archive: str | None = None

    @property
    def drops(self) -> bool:
        """`finalize` drops a month of ClickHouse that has an archive, and sends back one that has none; in
        PostgreSQL it ends a detach, and names none."""
        action = self.action
        return action.action == "drop" or (action.action == "finalize" and action.archive is not None)


@dataclass(frozen=True, slots=True)
class Hindrance:
    """A problem of one table. `table` None: of every table, such as a store that is away."""

    problem: Problem
    table: str | None = None


def hindrances(problems: Iterable[Problem], table: str | None = None) -> list[Hindrance]:
    return [Hindrance(problem, table) for problem in problems]


def problems_of(found: Iterable[Hindrance], table: str | None = None) -> tuple[Problem, ...]:
    """Each once: all of them, or those that a table has, with those that every table has."""
    return tuple(
        dict.fromkeys(each.problem for each in found if table is None or each.table in (None, table))
    )
