"""What a plan consists of, whichever store it is for, and what hinders it.

How it comes about say postgres/plan.py, clickhouse/plan.py and archive_retention.py.
"""

from __future__ import annotations

from collections.abc import Sequence
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
