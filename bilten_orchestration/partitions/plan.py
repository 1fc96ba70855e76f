"""What has to be done to a table's partitions, and why: pure over what catalogue.py read.

Rules, the same numbers in the tests. A partition is one of the catalogue's, whatever it is called; `now` is
the server's clock.

    Creating
    1   a period from the first one asked for to the current one plus `premake` that nothing covers: create
    2   a default partition: nothing is created or ended, and it is said how to be rid of it
    3   a period that is covered in part: problem; the other periods are created all the same
    4   the name of a period is taken by another table: problem, likewise
    Ending, after what earlier runs began
    5   a detach that is pending: finalize
    6   detached by us, and not archived: archive, then drop (at_end drop: drop; keep_detached: keep)
    7   detached by us, and archived: drop, which checks digest and archive once more
    8   attached, and over before the retention begins: detach, then as 6
    9   ... unless it holds the newest rows of the table: keep
    10  ... unless it was restored, and its hold has not ended: keep
    11  ... unless more than `limit` partitions would end in this run: keep, until told otherwise
    12  ... unless a foreign key has rows that reference it: keep, and problem
    13  nothing ends where clocks or data do not say that the time has passed: keep, and problem (trust.py)
    14  a partition that somebody else detached is nobody's: problem, never ended
    15  an archive whose own retention is over: expire
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bilten_orchestration.errors import Problem

ActionName = Literal["create", "attach", "finalize", "detach", "archive", "drop", "expire", "keep"]


@dataclass(frozen=True, slots=True)
class Action:
    """One step. `partition` is schema.name; bounds in UTC (None: unbounded). `case` is the rule above;
    `archive` the document that a drop or an expiry relies on. `begins`: it is the first step that ends a
    partition, which is what `limit` counts."""

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
