"""Which months of ClickHouse end, and why: pure over what was read. Cases as in postgres/plan.py, where
they are the same, and:

    16  rows in a month that was archived and dropped: keep, and problem

Late clicks come within 72 h, and months are kept for years, so only a backfill writes into such a month. Its
rows alone would make an archive that looks like the month and is not; so the archived ones are restored
beside them first (`bilten partitions restore`), and the month then ends whole, with a new archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions import archive_retention
from bilten_orchestration.partitions.actions import Action, ActionName, Plan
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse.months import Month, name_of
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.metadata import Recorded


@dataclass(frozen=True, slots=True)
class Seen:
    """`now` by the server's clock. `left`: months that a killed run moved out of the table."""

    table: PartitionedTable
    now: datetime
    months: tuple[Month, ...]
    left: tuple[Month, ...] = ()
    recorded: tuple[Recorded, ...] = ()
    archives: tuple[Archive, ...] = ()

    def record(self, period: Period) -> Recorded | None:
        name = name_of(self.table, period)
        return next((each for each in self.recorded if each.partition == name), None)

    def archive(self, period: Period) -> Archive | None:
        """The newest, which is the whole month (case 16)."""
        found = [a for a in self.archives if (a.from_at, a.to_at) == (period.start, period.end)]
        return max(found, key=lambda each: each.begun_at, default=None)


def plan(seen: Seen, *, limit: int, untrusted: Sequence[Problem] = ()) -> Plan:
    """What one table needs. `untrusted` is why nothing may end, empty where it may."""
    actions: list[Action] = []
    problems: list[Problem] = []

    def add(month: Month, action: ActionName, case: int, reason: str, archive: Archive | None = None) -> None:
        period = month.period
        actions.append(
            Action(
                seen.table.name,
                name_of(seen.table, period),
                action,
                reason,
                period.start,
                period.end,
                case,
                month.rows,
                month.bytes,
                archive.document if archive else None,
            )
        )

    newest = max((m.period for m in seen.months if m.rows), default=None)
    papers = archive_retention.plan(
        seen.table,
        seen.archives,
        now=seen.now,
        here=[(m.period.start, m.period.end) for m in (*seen.months, *seen.left)],
        has_rows=newest is not None,
        limit=limit,
        untrusted=untrusted,
    )
    over = [m for m in seen.months if m.period.end <= seen.table.kept_from(seen.now)]
    if untrusted:
        for month in (*seen.left, *over):
            add(month, "keep", 13, untrusted[0].what)
        actions += papers.actions
        return Plan(tuple(actions), tuple(untrusted) if actions else ())
    for month in seen.left:
        add(month, "finalize", 5, "its drop was interrupted", seen.archive(month.period))
    ending = 0
    for month in over:
        record = seen.record(month.period)
        if month.period == newest:
            add(month, "keep", 9, "it holds the newest rows of the table")
        elif record is not None and record.hold_until is not None and record.hold_until > seen.now:
            add(month, "keep", 10, f"restored, and held until {record.hold_until:%F %H:%M} UTC")
        elif _came_back(seen, month, record):
            problems.append(_late(seen, month))
            add(month, "keep", 16, "rows came into a month that was archived and dropped")
        elif ending >= limit:
            add(month, "keep", 11, f"more than {limit} in one run: bilten partitions apply --limit")
        else:
            ending += 1
            add(month, "archive", 6, f"over since {month.period.end:%F}")
            add(month, "drop", 6, "once its archive is proven")
    return Plan((*actions, *papers.actions), tuple(problems))


def _came_back(seen: Seen, month: Month, record: Recorded | None) -> bool:
    """Dropped by us, as the record says; where the record is lost (a restore of PostgreSQL), as an archive
    says that nobody restored."""
    if record is None:
        return seen.archive(month.period) is not None
    return record.state == "dropped"


def _late(seen: Seen, month: Month) -> Problem:
    table = seen.table
    delete = f"delete them: alter table {table.name} drop partition {month.id}"
    whole = f"bilten partitions restore {table.name} {month.period}: it ends whole again after its hold; or "
    return Problem(
        f"{table.name} has rows of {month.period}, which was archived and dropped",
        expected="late clicks within 72 h, no backfill into a month that is over",
        found=f"{month.rows} rows",
        # the archive may have outlived its own retention
        next=(whole if seen.archive(month.period) is not None else "") + delete,
    )
