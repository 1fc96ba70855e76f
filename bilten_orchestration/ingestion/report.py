"""What a batch and a comparison did, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

RowState = Literal["missing", "extra", "changed"]
Kind = Literal["first", "incremental", "full", "reconcile"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that differs; `columns` name where (all of them for a missing or an extra row)."""

    table: str
    key: str
    state: RowState
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableComparison:
    """`missing` are in PostgreSQL alone, `extra` in ClickHouse alone, `changed` in both with other content.

    `sums` are exact, per amount column: (PostgreSQL, ClickHouse).
    """

    table: str
    rows_postgres: int
    rows_clickhouse: int
    missing: int = 0
    extra: int = 0
    changed: int = 0
    sums: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        return not (self.missing or self.extra or self.changed)


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """PostgreSQL in one snapshot against what ClickHouse shows; `sample` is bounded, the counts are not."""

    batch: int
    as_of: datetime
    tables: tuple[TableComparison, ...]
    sample: tuple[Difference, ...]
    days: tuple[date, ...]
    seconds: float

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)


@dataclass(frozen=True, slots=True)
class SyncReport:
    """One applied batch. `rows` and `deletes` are what was sent per table; `touched_days` with reasons."""

    batch: int
    mark: int
    as_of: datetime
    kind: Kind
    rows: Mapping[str, int]
    deletes: Mapping[str, int]
    touched_days: Mapping[date, str]
    control_days: int
    control_cells: int
    clicks_moved: int
    added_columns: tuple[str, ...]
    epoch: Mapping[str, str | int | None]
    bytes: int
    seconds: float
    reconciliation: ReconcileReport | None = None
