"""The one place that declares the partitioned tables, and what becomes of their partitions.

To add a table: create it PARTITION BY RANGE of one timestamptz column, with that column in its primary key,
in a migration, and declare it here; the next `bilten partitions apply` makes its partitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.bounds import INTERVALS, LONGEST_SUFFIX, Interval, Period

AtEnd = Literal["archive_and_drop", "drop", "keep_detached"]
AT_ENDS: tuple[AtEnd, ...] = ("archive_and_drop", "drop", "keep_detached")
StoreName = Literal["postgres", "clickhouse"]

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_PARAMETER = re.compile(r"(toast\.)?[a-z_]+")
# NAMEDATALEN - 1; beside the suffix there is room for the name of a constraint made while it is attached
_LONGEST_NAME = 63
_CONSTRAINT = len("_bounds")


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """How one table is partitioned.

    `premake` is how many intervals are kept ready after the current one, `retention` how many are kept, the
    current one included. `at_end` is what becomes of a partition then. `storage` are storage parameters of
    each new partition (a partitioned parent cannot have any). `archive_retention` is for how many intervals
    after the end of its partition an archive is kept, None for ever: no rule of age of backups touches it.
    """

    name: str
    retention: int
    premake: int = 4
    interval: Interval = "month"
    column: str = "created_at"
    at_end: AtEnd = "archive_and_drop"
    storage: Mapping[str, str] = field(default_factory=dict)
    archive_retention: int | None = None
    store: StoreName = "postgres"

    @property
    def schema(self) -> str:
        return self.name.partition(".")[0]

    @property
    def table(self) -> str:
        return self.name.partition(".")[2]

    def kept_from(self, now: datetime) -> datetime:
        """What is over by then has left the retention."""
        return Period.of(now, self.interval).plus(1 - self.retention).start

    def ready_until(self, now: datetime) -> datetime:
        """Up to here (exclusive) partitions are there ahead."""
        return Period.of(now, self.interval).plus(self.premake).end


#: Of PostgreSQL.
DECLARED: tuple[PartitionedTable, ...] = (
    PartitionedTable("users.user_behavior", retention=13),
    PartitionedTable("events.event_analytics", retention=25),
    PartitionedTable("audit.audit_log", retention=84),
    PartitionedTable("system.slow_queries", retention=3),
)
#: Of ClickHouse, which makes a month's partition with its first row: nothing is made ahead.
CLICKHOUSE: tuple[PartitionedTable, ...] = (
    PartitionedTable("analytics.events", retention=25, premake=0, column="timestamp", store="clickhouse"),
)
BY_NAME: Mapping[str, PartitionedTable] = {table.name: table for table in DECLARED}


def problems(tables: Sequence[PartitionedTable]) -> list[Problem]:
    """Everything that is wrong with a declaration, whatever the stores hold."""
    found = [
        Problem(
            f"{table.name or 'a table'}: {what}",
            expected=expected,
            found=seen,
            next="correct bilten_orchestration/partitions/declared.py",
        )
        for table in tables
        for what, expected, seen in _wrong(table)
    ]
    names = [table.name for table in tables]
    found += [
        Problem(f"{name} is declared twice", expected="once", found=f"{names.count(name)} times")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    return found


def _wrong(table: PartitionedTable) -> Iterator[tuple[str, str, str]]:
    if not (_NAME.fullmatch(table.schema) and _NAME.fullmatch(table.table)):
        yield "no name of a table", "schema.table, in lower case", table.name
    longest = _LONGEST_NAME - LONGEST_SUFFIX - _CONSTRAINT
    if len(table.table) > longest:
        yield "names of its partitions would be cut", f"at most {longest} characters", table.table
    if not _NAME.fullmatch(table.column):
        yield "no name of a column", "a timestamptz column", table.column
    if table.interval not in INTERVALS:
        yield "unknown interval", ", ".join(INTERVALS), str(table.interval)
    if table.at_end not in AT_ENDS:
        yield "unknown end", ", ".join(AT_ENDS), str(table.at_end)
    if table.retention < 1:
        yield "retention keeps not even the current interval", "1 or more", str(table.retention)
    least = 1 if table.store == "postgres" else 0
    if table.premake < least:
        yield "premake is too small: writes fail in the next interval", f"{least} or more", str(table.premake)
    # both are counted from the partition's end
    if table.archive_retention is not None and table.archive_retention <= table.retention:
        yield (
            "archives would be gone as soon as they are made",
            f"more than the retention of {table.retention}, or None",
            str(table.archive_retention),
        )
    if table.archive_retention is not None and table.at_end != "archive_and_drop":
        yield "archive_retention without archives", "at_end archive_and_drop", table.at_end
    if unknown := [key for key in table.storage if not _PARAMETER.fullmatch(key)]:
        yield "no storage parameters", "such as autovacuum_vacuum_scale_factor", ", ".join(unknown)
