"""How every partitioned table stands: what its asset shows, and what its checks judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.listing import PartitionRow


@dataclass(frozen=True, slots=True)
class Standing:
    """`ahead`: whole intervals after the current one without a gap, -1 when the current one is not there;
    `kept`: intervals with a partition up to the current one; `growth_bytes`: of the newest interval that is
    over, None where there is none."""

    table: str
    partitions: int
    rows: int
    bytes: int
    ahead: int
    kept: int
    growth_rows: int | None
    growth_bytes: int | None


def standing(table: PartitionedTable, rows: Sequence[PartitionRow], now: datetime) -> Standing:
    mine = [row for row in rows if row.table == table.name]
    current = Period.of(now, table.interval)
    ahead = -1
    while any(_covers(row, current.plus(ahead + 1)) for row in mine) and ahead < 1000:
        ahead += 1
    over = [row for row in mine if row.to_at is not None and row.to_at <= current.start]
    newest = max(over, key=lambda row: row.to_at or now, default=None)
    return Standing(
        table.name,
        len(mine),
        sum(row.rows for row in mine),
        sum(row.bytes for row in mine),
        ahead,
        sum(row.from_at is None or row.from_at <= now for row in mine),
        newest.rows if newest else None,
        newest.bytes if newest else None,
    )


def too_few_ahead(table: PartitionedTable, found: Standing) -> tuple[Problem, bool] | None:
    """The problem, and whether it fails (below one interval ahead) or warns (below two)."""
    if table.store == "clickhouse" or found.ahead >= 2:
        return None
    return Problem(
        f"{table.name} has {max(found.ahead, 0)} {table.interval}s ready ahead"
        if found.ahead >= 0
        else f"{table.name} has no partition for the current {table.interval}",
        expected=f"{table.premake}; 2 at least",
        found=f"{found.ahead}",
        next="bilten partitions apply makes them at once; bilten partitions plan says what hinders",
    ), found.ahead < 1


def _covers(row: PartitionRow, period: Period) -> bool:
    return (row.from_at is None or row.from_at <= period.start) and (
        row.to_at is None or period.end <= row.to_at
    )
