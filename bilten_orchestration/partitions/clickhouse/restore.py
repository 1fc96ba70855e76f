"""Brings a month back from its archive, beside whatever came into it since.

What a kill leaves, by the step it comes in:

    1  files are read into a table of its own, whose digest must be    that table, which the next run empties
       the archive's
    2  the partition enters the table in one step: REPLACE into an     nothing, or all of it; the next run
       empty month, ATTACH into one with late rows                    sees that no row is missing
    3  the month of the sums per minute is made anew                   made by the next run
    4  it is recorded, with its hold                                   the same
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse.archive import read_back, require_equal
from bilten_orchestration.partitions.clickhouse.months import REALTIME, partition_id, proof, read
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_VIEW = ("analytics", "events_realtime")


def restore(
    client: Client, opened: Opened, table: PartitionedTable, archive: Archive, progress: Progress
) -> int:
    """How many rows came back: 0 when all of them are there. Raises Mismatch."""
    assert archive.from_at is not None  # noqa: S101 a month has bounds
    period = Period.of(archive.from_at)
    month = partition_id(period)
    try:
        require_equal(archive, read_back(client, opened, archive, table, progress), "was read back")
        here = [each for each in read(client, table.name) if each.period == period and each.rows]
        missing = archive.rows
        if here:
            missing = int(
                client.query(
                    f"select count() from {proof(table)} final where click_id not in"
                    f" (select click_id from {table.name} where toYYYYMM(created_date) = {month})"
                ).result_rows[0][0]
            )
        if missing:
            progress(f"{archive.partition}: {missing} rows come back")
            how = "attach" if here else "replace"
            client.command(f"alter table {table.name} {how} partition id '{month}' from {proof(table)}")
        _sums(client, table, month)
    finally:
        client.command(f"drop table if exists {proof(table)} sync")
    return missing


def _sums(client: Client, table: PartitionedTable, month: str) -> None:
    """The view fires on INSERT alone; its own query makes its month anew. Deliveries that were repeated are
    counted once now, as the archive holds them once."""
    ((query,),) = client.query(
        "select as_select from system.tables where database = {database:String} and name = {name:String}",
        parameters=dict(zip(("database", "name"), _VIEW, strict=True)),
    ).result_rows
    only = f"toYYYYMM(created_date) = {month}"
    client.command(f"alter table {REALTIME} drop partition id '{month}'")
    client.command(
        f"insert into {REALTIME} {query}",
        settings={
            "additional_table_filters": f"{{'{table.name}': '{only}'}}",
            "insert_deduplicate": 0,
        },
    )
