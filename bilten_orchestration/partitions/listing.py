"""What there is, table by table, and whether enough is ready ahead."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse import months
from bilten_orchestration.partitions.declared import CLICKHOUSE, DECLARED, PartitionedTable
from bilten_orchestration.partitions.postgres.catalogue import Attached, attached
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """One partition; bounds in UTC, the upper exclusive, None where unbounded; rows as estimated."""

    table: str
    partition: str
    from_at: datetime | None
    to_at: datetime | None
    state: Literal["attached", "detaching"]
    rows: int
    bytes: int


def list_partitions(
    settings: Settings, *, now: datetime | None = None
) -> tuple[list[PartitionRow], list[Problem]]:
    """All partitions, and a problem for each table whose current or next month is not there."""
    at = now or datetime.now(UTC)
    rows: list[PartitionRow] = []
    problems: list[Problem] = []
    with postgres.connect(
        settings.postgres, application_name="bilten partitions", autocommit=True
    ) as connection:
        for table in DECLARED:
            found = attached(connection, table.name)
            current = Period.of(at, table.interval)
            rows += [_row(table, partition) for partition in found]
            problems += [
                Problem(
                    f"{table.name} has no partition for {period}",
                    expected=f"{table.premake} {table.interval}s ahead",
                    found=f"the last one ends {found[-1].high}" if found else "no partition",
                    next="bilten partitions apply",
                )
                for period in (current, current.plus(1))
                if not any(p.covers(period.start, period.end) for p in found)
            ]
    for months_of in CLICKHOUSE if settings.clickhouse.host else ():
        rows += _months(settings, months_of)
    return rows, problems


def _months(settings: Settings, table: PartitionedTable) -> list[PartitionRow]:
    """Of ClickHouse, where a month comes with its first row."""
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        return [
            PartitionRow(
                table=table.name,
                partition=months.name_of(table, month.period),
                from_at=month.period.start,
                to_at=month.period.end,
                state="attached",
                rows=month.rows,
                bytes=month.bytes,
            )
            for month in months.read(client, table.name)
        ]


def _row(table: PartitionedTable, partition: Attached) -> PartitionRow:
    return PartitionRow(
        table=table.name,
        partition=partition.name,
        from_at=partition.low,
        to_at=partition.high,
        state="detaching" if partition.detach_pending else "attached",
        rows=partition.rows,
        bytes=partition.bytes,
    )
