"""Reads the counters of pg_stat_statements, of the databases of this platform.

Texts are read apart and for few statements alone: they lie in a file of megabytes, the counters in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from psycopg import sql

from bilten_orchestration.errors import TransientError
from bilten_orchestration.observability.queries.prerequisites import FIRST_WITH_STATS_SINCE, Facts
from bilten_orchestration.stores.postgres import Connection

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Counters:
    """What is added up over the calls of a statement; `total_milliseconds` is execution, without planning."""

    calls: int
    total_milliseconds: float
    rows: int
    shared_blocks_hit: int
    shared_blocks_read: int
    temp_blocks_written: int
    wal_bytes: int

    def values(self) -> tuple[int | float, ...]:
        return tuple(getattr(self, name) for name in COUNTERS)

    def minus(self, other: Counters) -> Counters:
        return Counters(*(a - b for a, b in zip(self.values(), other.values(), strict=True)))  # type: ignore[arg-type]

    def plus(self, other: Counters) -> Counters:
        return Counters(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))  # type: ignore[arg-type]

    @property
    def fell(self) -> bool:
        return any(value < 0 for value in self.values())


COUNTERS = tuple(field.name for field in fields(Counters))


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What pg_stat_statements keeps an entry by."""

    database_oid: int
    role_oid: int
    query_id: int
    is_toplevel: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """`stats_since` is when the entry was made; None before PostgreSQL 17."""

    stats_since: datetime | None
    counters: Counters


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. `at` is the server's clock just before the counters were read. `databases` are their names
    by oid: only these are in `entries`."""

    at: datetime
    stats_reset: datetime
    evictions: int
    databases: dict[int, str]
    entries: dict[Key, Entry]


def read(connection: Connection, facts: Facts, databases: Collection[str]) -> Reading:
    """Raises TransientError when the statistics were reset at each attempt to read them."""
    schema = sql.SQL(facts.schema or "public")
    since = sql.SQL("stats_since" if facts.numbers >= FIRST_WITH_STATS_SINCE else "null::timestamptz")
    names: dict[int, str] = dict(
        connection.execute(
            "select oid::bigint, datname from pg_database where datname = any(%s)", (list(databases),)
        ).fetchall()
    )
    info = sql.SQL("select clock_timestamp(), stats_reset, dealloc from {}.pg_stat_statements_info").format(
        schema
    )
    counters = sql.SQL(
        "select dbid::bigint, userid::bigint, queryid, toplevel, {}, calls, total_exec_time, rows,"
        " shared_blks_hit, shared_blks_read, temp_blks_written, wal_bytes::bigint"
        " from {}.pg_stat_statements(false) where dbid = any(%s::oid[]) and queryid is not null"
    ).format(since, schema)
    for _ in range(ATTEMPTS):
        before = connection.execute(info).fetchone()
        rows = connection.execute(counters, (list(names),)).fetchall()
        after = connection.execute(info).fetchone()
        assert before is not None  # noqa: S101 (a view of one row)
        assert after is not None  # noqa: S101
        if before[1] == after[1]:
            entries = {Key(*row[:4]): Entry(row[4], Counters(*row[5:])) for row in rows}
            return Reading(before[0], before[1], before[2], names, entries)
    raise TransientError(
        "the statistics of statements were reset while they were read",
        expected=f"one quiet moment in {ATTEMPTS} attempts",
        found="a reset within each of them",
        next="find what calls pg_stat_statements_reset so often",
    )


def texts(connection: Connection, facts: Facts, keys: Sequence[Key]) -> dict[Key, str]:
    """The texts as the server keeps them: not fit to be stored (text.py). What was evicted is missing."""
    if not keys:
        return {}
    rows = connection.execute(
        sql.SQL(
            "select dbid::bigint, userid::bigint, queryid, toplevel, query from {}.pg_stat_statements(true)"
            " where queryid = any(%s)"
        ).format(sql.SQL(facts.schema or "public")),
        (sorted({key.query_id for key in keys}),),
    ).fetchall()
    wanted = set(keys)
    return {Key(*row[:4]): row[4] for row in rows if Key(*row[:4]) in wanted and row[4] is not None}


def texts_by_id(connection: Connection, facts: Facts, query_ids: Sequence[int]) -> dict[int, str]:
    """One text of each statement, whoever ran it; as unfit to be stored as those of `texts`."""
    return dict(
        connection.execute(
            sql.SQL(
                "select distinct on (queryid) queryid, query from {}.pg_stat_statements(true)"
                " where queryid = any(%s) and query is not null order by queryid"
            ).format(sql.SQL(facts.schema or "public")),
            (list(query_ids),),
        ).fetchall()
    )


def roles(connection: Connection, oids: Collection[int]) -> dict[int, str]:
    """Names of roles; one that was dropped is missing."""
    return dict(
        connection.execute(
            "select oid::bigint, rolname from pg_roles where oid = any(%s::oid[])", (sorted(set(oids)),)
        ).fetchall()
    )
