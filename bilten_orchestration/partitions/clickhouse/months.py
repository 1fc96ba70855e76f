"""What there is of a monthly table in ClickHouse, by system.parts and never by counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

STAGE = "bilten_stage"
#: Summed up from analytics.events by a materialized view; a month of it goes and comes with the rows.
REALTIME = "analytics.metrics_realtime"


@dataclass(frozen=True, slots=True)
class Month:
    """One partition. `rows` counts duplicates that are not merged yet; `bytes` as on disk."""

    period: Period
    rows: int
    bytes: int
    parts: int

    @property
    def id(self) -> str:
        """As ClickHouse names it: toYYYYMM."""
        return partition_id(self.period)


def partition_id(period: Period) -> str:
    return f"{period.first:%Y%m}"


def name_of(table: PartitionedTable, period: Period) -> str:
    """Its name in plans, archives and system.partition_metadata."""
    return f"{table.name}_{period.suffix}"


def leaving(table: PartitionedTable) -> str:
    """Where a month waits between leaving its table and being dropped."""
    return f"{STAGE}.{table.table}_leaving"


def proof(table: PartitionedTable) -> str:
    """Where an archive is read back to."""
    return f"{STAGE}.{table.table}_proof"


def read(client: Client, table: str) -> tuple[Month, ...]:
    """By month; none where there is no such table, which system.parts does not tell from an empty one.

    What is empty is left out: a month that was moved leaves an empty part for a while. Raises Mismatch for a
    partition that is no month.
    """
    rows = client.query(
        """
        select partition_id, sum(rows), sum(bytes_on_disk), count()
        from system.parts where active and database = {database:String} and table = {table:String}
        group by partition_id having sum(rows) > 0 order by partition_id
        """,
        parameters=dict(zip(("database", "table"), table.split("."), strict=True)),
    ).result_rows
    return tuple(Month(_period(table, name), *numbers) for name, *numbers in rows)


def _period(table: str, name: str) -> Period:
    if len(name) != 6 or not name.isdigit() or not 1 <= int(name[4:]) <= 12:
        raise Mismatch(
            f"{table} has a partition that is no month",
            expected="partition by toYYYYMM, such as 202601",
            found=name,
            next="bilten migrate status: is its migration applied?",
        )
    return Period(date(int(name[:4]), int(name[4:]), 1))


def clock(client: Client) -> datetime:
    """What time it is by the server."""
    seconds = client.query("select toUnixTimestamp64Milli(now64(3))").result_rows[0][0]
    return datetime.fromtimestamp(int(seconds) / 1000, UTC)


def columns(client: Client, table: str) -> Sequence[tuple[str, str]]:
    """(name, type) of what is stored, in order; what is computed from it is left out."""
    rows = client.query(
        """
        select name, type from system.columns
        where database = {database:String} and table = {table:String}
          and default_kind not in ('MATERIALIZED', 'ALIAS', 'EPHEMERAL') order by position
        """,
        parameters=dict(zip(("database", "table"), table.split("."), strict=True)),
    ).result_rows
    return [(str(name), str(kind)) for name, kind in rows]
