"""What there is and what there was, table by table, and whether enough is ready ahead."""

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


@dataclass(frozen=True, slots=True)
class EndedRow:
    """A partition that is none any more, of either store. `archive` is its document in the repository, None
    where it has none, or its time is over."""

    table: str
    partition: str
    from_at: datetime | None
    to_at: datetime | None
    state: Literal["detached", "archived", "dropped"]
    rows: int | None
    archive: str | None
    changed_at: datetime
    run: str | None


def list_ended(settings: Settings) -> list[EndedRow]:
    """By table and lower bound, as system.partition_metadata has them."""
    with postgres.connect(
        settings.postgres, application_name="bilten partitions", autocommit=True
    ) as connection:
        rows = connection.execute(
            """
            select table_name, partition_name, case when isfinite(from_at) then from_at end,
                   case when isfinite(to_at) then to_at end, state, rows, archive_object, updated_at, run_id
            from system.partition_metadata where state in ('detached', 'archived', 'dropped')
            order by table_name, from_at, partition_name
            """
        ).fetchall()
    return [EndedRow(*row) for row in rows]


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
