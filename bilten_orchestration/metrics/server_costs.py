"""What the statements of a dbt run cost the server, per model and test, from system.query_log.

dbt puts the id of its node into a comment before each statement, and one build runs at a time (locks.py):
a node id and the moment at which the run began name its statements exactly. Costs explain and prove nothing:
where the log cannot be read (switched off, not granted), there are none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums over statements: `seconds` of the server (not of the network or of dbt), rows and bytes read."""

    statements: int = 0
    seconds: float = 0.0
    read_rows: int = 0
    read_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.statements + other.statements,
            self.seconds + other.seconds,
            self.read_rows + other.read_rows,
            self.read_bytes + other.read_bytes,
        )


def now(client: Client) -> datetime:
    """The server's clock, by which the log is written (UTC)."""
    [[moment]] = client.query("select now64(6, 'UTC')").result_rows
    found: datetime = moment
    return found


def by_node(client: Client, since: datetime) -> dict[str, Cost]:
    """Costs of dbt's statements that began at or after `since`, by unique id of the node."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        client.command("system flush logs")
        rows = client.query(
            """
            select
                JSONExtractString(extract(query, '^/[*] ([{].*?[}]) [*]/'), 'node_id') as node,
                count(),
                sum(query_duration_ms) / 1000,
                sum(read_rows),
                sum(read_bytes)
            from system.query_log
            where
                event_date >= toDate({since:DateTime64(6, 'UTC')})
                and query_start_time_microseconds >= {since:DateTime64(6, 'UTC')}
                and type in ('QueryFinish', 'ExceptionWhileProcessing')
                and is_initial_query
                and startsWith(query, '/* {"app": "dbt"')
            group by node
            having node <> ''
            """,
            {"since": since},
        ).result_rows
    except ClickHouseError as error:
        logger.warning("no costs of this run: system.query_log cannot be read (%s)", str(error).strip()[:200])
        return {}
    return {
        node: Cost(int(count), float(seconds), int(read), int(size))
        for node, count, seconds, read, size in rows
    }


def total(costs: Mapping[str, Cost], nodes: Iterable[str]) -> Cost:
    return sum((costs[node] for node in nodes if node in costs), Cost())
