"""Names by which an adoption knows its own steps again."""

from __future__ import annotations

from bilten_orchestration.partitions.declared import PartitionedTable

FIRST = "first"


def bounds_check(table: PartitionedTable) -> str:
    """Name of the CHECK by which a table is known to be on its way."""
    return f"{table.table}_adopt_bounds"


def first_name(table: PartitionedTable) -> str:
    return f"{table.table}_{FIRST}"
