"""The last look and the totals per day, in PostgreSQL beside the rows that were drawn from them.

Everything here is written within the caller's transaction: rows of slow statements, totals and baseline go
together or not at all (collect.py).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from psycopg import sql

from bilten_orchestration.observability.queries.difference import Look
from bilten_orchestration.observability.queries.statistics import COUNTERS, Counters, Entry, Key, Reading
from bilten_orchestration.stores.postgres import Connection

KEY = ("database_oid", "role_oid", "query_id", "is_toplevel")
_TYPES = {
    "calls": "bigint",
    "total_milliseconds": "double precision",
    "rows": "bigint",
    "shared_blocks_hit": "bigint",
    "shared_blocks_read": "bigint",
    "temp_blocks_written": "bigint",
    "wal_bytes": "bigint",
}


def looks(connection: Connection) -> dict[int, Look]:
    """The last look, by oid of the database."""
    return {
        oid: Look(epoch, looked_at, stats_reset, evictions)
        for oid, epoch, looked_at, stats_reset, evictions in connection.execute(
            "select database_oid::bigint, epoch, looked_at, stats_reset, evictions"
            " from system.statement_looks"
        ).fetchall()
    }


def read(connection: Connection) -> dict[Key, Entry]:
    """The entries of the last look."""
    columns = sql.SQL(", ").join(map(sql.Identifier, COUNTERS))
    return {
        Key(*row[:4]): Entry(row[4], Counters(*row[5:]))
        for row in connection.execute(
            sql.SQL(
                "select database_oid::bigint, role_oid::bigint, query_id, is_toplevel, stats_since, {}"
                " from system.statement_baseline"
            ).format(columns)
        ).fetchall()
    }


def write(
    connection: Connection, reading: Reading, baseline: Mapping[Key, Entry], epoch: Mapping[str, object]
) -> None:
    """Make `reading` the last look; only what differs from `baseline` is written."""
    gone = [key for key in baseline if key not in reading.entries]
    changed = [(key, entry) for key, entry in reading.entries.items() if baseline.get(key) != entry]
    if gone:
        connection.execute(
            "delete from system.statement_baseline b using unnest(%s::oid[], %s::oid[], %s::bigint[],"
            " %s::boolean[]) g (database_oid, role_oid, query_id, is_toplevel)"
            " where (b.database_oid, b.role_oid, b.query_id, b.is_toplevel)"
            "     = (g.database_oid, g.role_oid, g.query_id, g.is_toplevel)",
            _columns(_key(key) for key in gone),
        )
    if changed:
        connection.execute(
            sql.SQL(
                "insert into system.statement_baseline (database_oid, role_oid, query_id, is_toplevel,"
                " stats_since, {columns})"
                " select * from unnest(%s::oid[], %s::oid[], %s::bigint[], %s::boolean[], %s::timestamptz[],"
                " {arrays})"
                " on conflict (database_oid, role_oid, query_id, is_toplevel) do update"
                " set stats_since = excluded.stats_since, {updates}"
            ).format(columns=_NAMES, arrays=_ARRAYS, updates=_set("{0} = excluded.{0}")),
            _columns((*_key(key), entry.stats_since, *entry.counters.values()) for key, entry in changed),
        )
    connection.execute(
        "delete from system.statement_looks where database_oid <> all(%s::oid[])", (list(reading.databases),)
    )
    for oid, name in reading.databases.items():
        connection.execute(
            "insert into system.statement_looks as l"
            " (database_oid, database_name, epoch, looked_at, stats_reset, evictions)"
            " values (%s, %s, %s, %s, %s, %s) on conflict (database_oid) do update"
            " set database_name = excluded.database_name, epoch = excluded.epoch,"
            " looked_at = excluded.looked_at, stats_reset = excluded.stats_reset,"
            " evictions = excluded.evictions",
            (oid, name, json.dumps(dict(epoch)), reading.at, reading.stats_reset, reading.evictions),
        )


def add_to_day(
    connection: Connection, at: datetime, counted: Mapping[tuple[str, int], Counters], keep_days: int
) -> None:
    """Add to the totals of the day of `at`; `counted` by database and statement."""
    day = at.astimezone(UTC).date()
    if counted:
        connection.execute(
            sql.SQL(
                "insert into system.statement_days as d (day, database_name, query_id, {columns})"
                " select * from unnest(%s::date[], %s::text[], %s::bigint[], {arrays})"
                " on conflict (day, database_name, query_id) do update set {updates}"
            ).format(columns=_NAMES, arrays=_ARRAYS, updates=_set("{0} = d.{0} + excluded.{0}")),
            _columns((day, *key, *counted[key].values()) for key in sorted(counted)),
        )
    connection.execute("delete from system.statement_days where day < %s", (day - timedelta(days=keep_days),))


def _key(key: Key) -> tuple[int, int, int, bool]:
    return key.database_oid, key.role_oid, key.query_id, key.is_toplevel


def _columns(rows: Iterable[Collection[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _set(template: str) -> sql.Composed:
    # the names are constants of this module
    return sql.SQL(", ").join(sql.SQL(template.format(name)) for name in COUNTERS)


_NAMES = sql.SQL(", ").join(map(sql.Identifier, COUNTERS))
_ARRAYS = sql.SQL(", ").join(sql.SQL("%s::" + _TYPES[name] + "[]") for name in COUNTERS)
