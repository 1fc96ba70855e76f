"""ClickHouse as its system tables tell it: parts, merges, mutations, queries, memory, disks, large tables.

Two statements, on a connection that is kept: making one reads all settings of the server first. Tables of a
build carry its id in their names while it runs; all builds of one mart are told as one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.series import Collected, Family, counter, gauge
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_C = "bilten_clickhouse_"
_LIMITS: Final = {"connect_timeout_seconds": 5, "query_timeout_seconds": 15}

STARTED = gauge(f"{_C}start_timestamp_seconds", "When the server started")
QUERIES = gauge(f"{_C}queries_running", "Statements that run now")
QUERY_AGE = gauge(f"{_C}longest_query_seconds", "How long a statement has been running at most")
MERGES = gauge(f"{_C}merges_running", "Merges that run now")
MERGE_AGE = gauge(f"{_C}longest_merge_seconds", "How long a merge has been running at most")
MUTATING = gauge(f"{_C}part_mutations_running", "Parts that are being mutated now")
MUTATIONS = gauge(f"{_C}mutations_pending", "Mutations that are not done")
MUTATIONS_FAILING = gauge(f"{_C}mutations_failing", "Mutations whose newest attempt failed")
MUTATION_AGE = gauge(f"{_C}oldest_mutation_age_seconds", "Age of the oldest mutation that is not done")
HTTP_CONNECTIONS = gauge(f"{_C}http_connections", "Connections over HTTP")
TCP_CONNECTIONS = gauge(f"{_C}tcp_connections", "Connections over the native protocol")
DELAYED = gauge(f"{_C}delayed_inserts", "Inserts that wait because a partition has too many parts")
MEMORY = gauge(f"{_C}memory_bytes", "Memory that the server has allocated")
MEMORY_LIMIT = gauge(f"{_C}memory_limit_bytes", "Memory that it may allocate; absent without a limit")
PARTS_LIMIT = gauge(f"{_C}parts_per_partition_limit", "Parts of a partition beyond which inserts fail")
QUERIES_TOTAL = counter(f"{_C}queries_total", "Statements")
FAILED = counter(f"{_C}queries_failed_total", "Statements that failed")
SELECTS = counter(f"{_C}select_queries_total", "SELECT statements")
INSERTS = counter(f"{_C}insert_queries_total", "INSERT statements")
QUERY_SECONDS = counter(f"{_C}query_seconds_total", "Time of all statements")
INSERTED_ROWS = counter(f"{_C}inserted_rows_total", "Rows inserted")
INSERTED_BYTES = counter(f"{_C}inserted_bytes_total", "Bytes inserted, uncompressed")
READ_ROWS = counter(f"{_C}selected_rows_total", "Rows read by SELECT")
READ_BYTES = counter(f"{_C}selected_bytes_total", "Bytes read by SELECT, uncompressed")
MERGED_ROWS = counter(f"{_C}merged_rows_total", "Rows read by merges")
REJECTED = counter(f"{_C}inserts_rejected_total", "Inserts that failed because of too many parts")
DELAYED_TOTAL = counter(f"{_C}inserts_delayed_total", "Inserts that were delayed because of too many parts")
DISK_BYTES = gauge(f"{_C}disk_size_bytes", "Size of a local disk", "disk")
DISK_FREE = gauge(f"{_C}disk_free_bytes", "Room on it that is neither used nor reserved", "disk")
PARTS = gauge(f"{_C}parts", "Active parts of all tables")
MOST_PARTS = gauge(f"{_C}parts_per_partition_max", "Active parts of the partition that has most")
DATA_BYTES = gauge(f"{_C}data_size_bytes", "Size on disk of all tables, compressed")
TABLES = gauge(f"{_C}tables", "Tables that hold data")
TABLE_BYTES = gauge(f"{_C}table_size_bytes", "Size on disk of the largest tables", "database", "table")
TABLE_ROWS = gauge(f"{_C}table_rows", "Rows in them", "database", "table")
TABLE_PARTS = gauge(f"{_C}table_parts", "Active parts of them", "database", "table")
TABLE_MOST_PARTS = gauge(
    f"{_C}table_parts_per_partition_max", "Active parts of their partition that has most", "database", "table"
)

#: By the name that the server has, as system.metrics and system.events list it.
_METRICS: Final = {
    "Query": QUERIES,
    "Merge": MERGES,
    "PartMutation": MUTATING,
    "HTTPConnection": HTTP_CONNECTIONS,
    "TCPConnection": TCP_CONNECTIONS,
    "DelayedInserts": DELAYED,
    "MemoryTracking": MEMORY,
}
_EVENTS: Final = {
    "Query": QUERIES_TOTAL,
    "FailedQuery": FAILED,
    "SelectQuery": SELECTS,
    "InsertQuery": INSERTS,
    "QueryTimeMicroseconds": QUERY_SECONDS,
    "InsertedRows": INSERTED_ROWS,
    "InsertedBytes": INSERTED_BYTES,
    "SelectedRows": READ_ROWS,
    "SelectedBytes": READ_BYTES,
    "MergedRows": MERGED_ROWS,
    "RejectedInserts": REJECTED,
    "DelayedInserts": DELAYED_TOTAL,
}
_FACTS: Final = {
    "started": STARTED,
    "query": QUERY_AGE,
    "merge": MERGE_AGE,
    "mutations": MUTATIONS,
    "failing": MUTATIONS_FAILING,
    "mutation": MUTATION_AGE,
    "memory_limit": MEMORY_LIMIT,
    "parts_limit": PARTS_LIMIT,
}

# ages of who asks do not count; a limit of 0 is none
_SERVER = """
    select 'metric', metric, toFloat64(value) from system.metrics where metric in {metrics:Array(String)}
    union all
    select 'event', event, toFloat64(value) from system.events where event in {events:Array(String)}
    union all
    select 'disk_size', name, toFloat64(total_space) from system.disks where type = 'Local'
    union all
    select 'disk_free', name, toFloat64(unreserved_space) from system.disks where type = 'Local'
    union all
    select 'fact', 'started', toFloat64(toUnixTimestamp(now()) - uptime())
    union all
    select 'fact', 'query', max(elapsed) from system.processes where query_id <> queryID()
    union all
    select 'fact', 'merge', max(elapsed) from system.merges
    union all
    select 'fact', tupleElement(found, 1), tupleElement(found, 2) from (
        select arrayJoin([('mutations', toFloat64(count())),
                          ('failing', toFloat64(countIf(latest_fail_reason <> ''))),
                          ('mutation', if(count() = 0, 0, toFloat64(now() - min(create_time))))]) as found
        from system.mutations where not is_done)
    union all
    select 'fact', 'memory_limit', toFloat64(value) from system.server_settings
    where name = 'max_server_memory_usage' and value <> '0'
    union all
    select 'fact', 'parts_limit', toFloat64(value) from system.merge_tree_settings
    where name = 'parts_to_throw_insert' and value <> '0'
"""

_PARTS = """
    select database, replaceRegexpOne(table, '__build_.*$', '__build') as name, sum(bytes), sum(rows),
           sum(parts), max(parts)
    from (select database, table, partition_id, sum(bytes_on_disk) as bytes, sum(rows) as rows,
                 count() as parts
          from system.parts where active group by database, table, partition_id)
    group by database, name order by sum(bytes) desc, database, name
"""


@dataclass(slots=True)
class ClickHouseInternals:
    """Read by one thread alone."""

    settings: Settings
    name: str = "metrics/clickhouse"
    needs: tuple[str, ...] = ("store/clickhouse",)
    _client: Client | None = field(default=None, repr=False)

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.metrics_seconds

    def read(self) -> Reading:
        found = Collected()
        with translated("the look at its system tables"):
            try:
                self._collect(found)
            except BaseException:
                self._forget()
                raise
        return Reading(samples=found.samples)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

    def _collect(self, found: Collected) -> None:
        from bilten_orchestration.stores import clickhouse

        if self._client is None:
            self._client = clickhouse.connect(self.settings.clickhouse.model_copy(update=_LIMITS))
        rows = self._client.query(
            _SERVER, parameters={"metrics": list(_METRICS), "events": list(_EVENTS)}
        ).result_rows
        values: dict[tuple[str, str], float] = {(kind, name): value for kind, name, value in rows}
        _named(found, "metric", _METRICS, values)
        # what has not happened yet is not listed
        _named(found, "event", _EVENTS, {("event", name): 0.0 for name in _EVENTS} | values)
        _named(found, "fact", _FACTS, values)
        for (kind, name), value in values.items():
            if kind in ("disk_size", "disk_free"):
                found.add(DISK_BYTES if kind == "disk_size" else DISK_FREE, value, name)
        tables = self._client.query(_PARTS).result_rows
        found.add(TABLES, len(tables))
        found.add(DATA_BYTES, sum(row[2] for row in tables))
        found.add(PARTS, sum(row[4] for row in tables))
        found.add(MOST_PARTS, max((row[5] for row in tables), default=0))
        for database, table, *numbers in tables[: self.settings.serve.metrics_top]:
            for family, value in zip(
                (TABLE_BYTES, TABLE_ROWS, TABLE_PARTS, TABLE_MOST_PARTS), numbers, strict=True
            ):
                found.add(family, value, database, table)

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # it is broken already, which is told
                client.close()


def _named(
    found: Collected, kind: str, families: dict[str, Family], values: dict[tuple[str, str], float]
) -> None:
    for name, family in families.items():
        value = values.get((kind, name))
        if value is not None and name.endswith("Microseconds"):
            value /= 1e6
        found.add(family, value)
