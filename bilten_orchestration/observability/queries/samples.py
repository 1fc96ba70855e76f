"""One row per look and database: what its statements took since the last one, and how it stands now.

Written in the transaction of the look (collect.py): counted once, like the statements themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from bilten_orchestration.observability.queries.difference import Difference
from bilten_orchestration.observability.queries.statistics import Reading
from bilten_orchestration.stores.postgres import Connection

_WRITE = """
    insert into system.database_samples (database_name, sampled_at, since, calls, total_milliseconds,
        shared_blocks_hit, shared_blocks_read, connections, connections_limit, database_bytes)
    select datname, %(at)s, %(since)s, %(calls)s, %(milliseconds)s, %(hit)s, %(read)s,
           (select count(*) from pg_stat_activity a
            where a.datid = d.oid and a.backend_type = 'client backend'),
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
           pg_database_size(d.oid)
    from pg_database d where d.oid = %(oid)s
"""


def write(connection: Connection, reading: Reading, found: Mapping[int, Difference], keep_days: int) -> None:
    """A sample of each database; those older than `keep_days` go, the hours of them are in ClickHouse."""
    for oid, each in found.items():
        counted = each.counted.values() if each.since is not None else None
        connection.execute(
            _WRITE,
            {
                "at": reading.at,
                "oid": oid,
                "since": each.since,
                "calls": None if counted is None else sum(one.calls for one in counted),
                "milliseconds": None if counted is None else sum(one.total_milliseconds for one in counted),
                "hit": None if counted is None else sum(one.shared_blocks_hit for one in counted),
                "read": None if counted is None else sum(one.shared_blocks_read for one in counted),
            },
        )
    connection.execute(
        "delete from system.database_samples where sampled_at < %s", (reading.at - timedelta(days=keep_days),)
    )
