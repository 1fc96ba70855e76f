"""When an archive's own retention is over: `archive_retention` of its table's declaration, and no other rule.

Pure, and the same for both stores; expiry.py does it. No rule of age of backups/retention looks at archives.
The numbers of the stores' plan.py, and of the tests:

    15  kept for `archive_retention` intervals after its end: expire, the oldest first
    9   ... unless the table holds no rows: keep, nothing says that time has passed
    10  ... unless its period is there, restored or not gone yet: keep, it is what the rows are compared with
    11  ... unless more than `limit` archives of the table would go in this run: keep, until told otherwise
    13  nothing goes where clocks or data do not say that the time has passed: keep, and problem
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.actions import Action, ActionName, Plan
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable

Bounds = tuple[datetime | None, datetime | None]


def plan(
    table: PartitionedTable,
    archives: Sequence[Archive],
    *,
    now: datetime,
    here: Sequence[Bounds],
    has_rows: bool,
    limit: int,
    untrusted: Sequence[Problem] = (),
) -> Plan:
    """`archives` of that table; `here` are the bounds of what is in the store, attached or by itself."""
    over = [
        (until, archive)
        for archive in sorted(archives, key=lambda each: (str(each.to_at), each.begun_at))
        if (until := kept_until(table, archive)) is not None and until <= now
    ]
    actions: list[Action] = []

    def add(archive: Archive, action: ActionName, case: int, reason: str) -> None:
        actions.append(
            Action(
                table.name,
                archive.partition,
                action,
                reason,
                archive.from_at,
                archive.to_at,
                case,
                archive.rows,
                archive.stored_bytes,
                archive.document,
            )
        )

    going = 0
    for until, archive in over:
        if untrusted:
            add(archive, "keep", 13, f"its archive: {untrusted[0].what}")
        elif not has_rows:
            add(archive, "keep", 9, "its archive: no rows in the table say that time has passed")
        elif any(_overlap(archive, bounds) for bounds in here):
            add(archive, "keep", 10, "its archive: the rows are there still, or again")
        elif going >= limit:
            add(
                archive,
                "keep",
                11,
                f"its archive: more than {limit} in one run: bilten partitions apply --limit",
            )
        else:
            going += 1
            add(archive, "expire", 15, f"its archive was kept until {until:%F}")
    return Plan(tuple(actions), tuple(untrusted) if over else ())


def kept_until(table: PartitionedTable, archive: Archive) -> datetime | None:
    """None for ever: nothing is declared, or the archive has no upper bound."""
    if table.archive_retention is None or archive.to_at is None:
        return None
    return Period.of(archive.to_at, table.interval).plus(table.archive_retention).start


def _overlap(archive: Archive, bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or archive.to_at is None or low < archive.to_at) and (
        high is None or archive.from_at is None or archive.from_at < high
    )
