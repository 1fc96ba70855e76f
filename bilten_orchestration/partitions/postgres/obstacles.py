"""What stands in the way of a plan, as people are told.

When it is told says plan.py, and of new partitions premake.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres.catalogue import Attached
from bilten_orchestration.partitions.postgres.seen import Detached


def default_problem(table: PartitionedTable, partition: Attached) -> Problem:
    return Problem(
        f"{table.name} has a default partition, {partition.name}",
        expected="none: rows in it would hinder each new partition, and it blocks DETACH CONCURRENTLY",
        found=partition.name,
        next=f"bilten partitions adopt {table.name} --default moves its rows to their partitions",
    )


def in_part_problem(table: PartitionedTable, period: Period, over: Sequence[Attached]) -> Problem:
    return Problem(
        f"the {table.interval} {period} of {table.name} is covered in part",
        expected=f"one partition from {period.start:%F} to {period.end:%F} (UTC), or none",
        found="; ".join(f"{p.name} from {p.low} to {p.high}" for p in over),
        next="detach what overlaps, or make the missing piece by hand",
    )


def taken_problem(table: PartitionedTable, name: str) -> Problem:
    return Problem(
        f"{table.schema}.{name} exists and is no partition of {table.name}",
        expected="no table of that name, or one attached for its period",
        found="a table that is not attached",
        next="attach it again if it was detached by hand, otherwise rename it",
    )


def by_hand_problem(table: PartitionedTable, each: Detached) -> Problem:
    recorded = each.recorded
    return Problem(
        f"{each.name} is recorded as {recorded.state} in {table.name}, and is no partition of it",
        expected="a partition, or a table that maintenance detached",
        found="somebody else detached it" if each.like_parent else "a table with other columns",
        next=f"alter table {table.name} attach partition {each.name} for values from"
        f" ('{each.low}') to ('{each.high}'); or drop it, if nobody wants it",
    )


def referenced_problem(partition: Attached, key: str) -> Problem:
    return Problem(
        f"{partition.name} is over, and cannot be detached",
        expected="no row that references one of its rows",
        found=f"the foreign key {key}",
        next="delete the rows that reference it, or drop the foreign key",
    )


def kept_again_problem(
    table: PartitionedTable, name: str, low: datetime | None, high: datetime | None
) -> Problem:
    return Problem(
        f"{name} is detached, and within the retention of {table.name} by now",
        expected=f"partitions that ended before {table.retention} {table.interval}s",
        found=f"one that ended {high}",
        next=f"alter table {table.name} attach partition {name} for values from ('{low}') to ('{high}')",
    )
