"""Ends a month whose archive is proven: out of the table in one step, compared once more, dropped.

ClickHouse has no lock under which rows could be compared before DROP PARTITION: a click that comes in between
would be lost. So the month moves into a table of its own, where nobody writes, and is compared there.

What a kill leaves, by the step it comes in:

    1  a table like the month's is made         it, empty
    2  MOVE PARTITION                           nothing, or all of the month in that table; the next run
                                                compares and drops, or moves it back
    3  compared with the archive; other rows    the same
       are moved back
    4  the month of the sums per minute goes    the same, without that month of sums, which restore makes anew
    5  the table is dropped                     nothing

A click that comes after 2 is alone in its month, and told (case 16 of plan.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.partitions import archives
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse import digest
from bilten_orchestration.partitions.clickhouse.archive import require_equal
from bilten_orchestration.partitions.clickhouse.months import (
    REALTIME,
    columns,
    leaving,
    partition_id,
    read,
)
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def drop(
    client: Client, opened: Opened, table: PartitionedTable, archive: Archive, progress: Progress
) -> None:
    """Raises Mismatch: an archive that is not whole in the bucket now (nothing was touched), or rows that it
    does not hold (they are back in their table)."""
    assert archive.from_at is not None  # noqa: S101 a month has bounds
    archives.require_whole(opened, archive.document, progress)
    period = Period.of(archive.from_at)
    aside = leaving(table)
    client.command(f"create table if not exists {aside} as {table.name}")
    if any(month.rows for month in read(client, aside) if month.period != period):
        raise Mismatch(
            f"{aside} holds another month",
            expected=f"{period}, or nothing",
            found=", ".join(str(month.period) for month in read(client, aside)),
            next="bilten partitions apply goes on with that one first",
        )
    if not read(client, aside):
        progress(f"{archive.partition}: out of {table.name}")
        client.command(
            f"alter table {table.name} move partition id '{partition_id(period)}' to table {aside}"
        )
    finish(client, table, archive, progress)


def finish(client: Client, table: PartitionedTable, archive: Archive, progress: Progress) -> None:
    """Of a month that has left its table. Raises Mismatch, after it was moved back."""
    assert archive.from_at is not None  # noqa: S101
    period, aside = Period.of(archive.from_at), leaving(table)
    found = digest.compute(client, aside, columns(client, table.name), period)
    try:
        require_equal(archive, found, "was to be dropped")
    except Mismatch:
        back(client, table, period, progress)
        raise
    progress(f"{archive.partition}: dropped, {found.rows} rows")
    client.command(f"alter table {REALTIME} drop partition id '{partition_id(period)}'")
    client.command(f"drop table {aside} sync")


def back(client: Client, table: PartitionedTable, period: Period, progress: Progress) -> None:
    """A month that may not be dropped goes back to its table."""
    progress(f"{table.name}: {period} goes back, it is not what was archived")
    aside = leaving(table)
    client.command(f"alter table {aside} move partition id '{partition_id(period)}' to table {table.name}")
    client.command(f"drop table {aside} sync")
