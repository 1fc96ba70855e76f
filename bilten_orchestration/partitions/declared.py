"""The one place that declares the partitioned tables of PostgreSQL.

To add a table: create it PARTITION BY RANGE (created_at) with primary key (id, created_at) in a
migration, and declare it here; the next premake makes its months.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

AtEnd = Literal["archive_and_drop", "drop", "keep_detached"]


@dataclass(frozen=True, slots=True)
class PartitionedTable:
    """`premake`: months kept ready after the current one. `retention`: months kept, the current one included.

    `storage` are storage parameters of each partition (a partitioned parent cannot have any).
    """

    name: str
    retention: int
    premake: int = 4
    interval: Literal["month"] = "month"
    column: str = "created_at"
    at_end: AtEnd = "archive_and_drop"
    storage: Mapping[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> str:
        return self.name.partition(".")[0]

    @property
    def table(self) -> str:
        return self.name.partition(".")[2]


DECLARED: tuple[PartitionedTable, ...] = (
    PartitionedTable("users.user_behavior", retention=13),
    PartitionedTable("events.event_analytics", retention=25),
    PartitionedTable("audit.audit_log", retention=84),
    PartitionedTable("system.slow_queries", retention=3),
)
BY_NAME: Mapping[str, PartitionedTable] = {table.name: table for table in DECLARED}
