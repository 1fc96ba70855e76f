"""One look at pg_stat_statements: what the watchdog calls every five minutes, and `bilten queries collect`.

What statements took since the last look goes to system.slow_queries (those above the mean, and the heaviest
of each database), is added to system.statement_days (all of them) and to system.database_samples (their sum,
with connections and size), and the look becomes the last one: in one transaction, under one lock. What a
kill leaves behind:

1. before the commit: nothing. The next look counts from the same baseline, over a longer time.
2. after the commit, before the plans: rows without plan. The next look within an hour asks for them.
3. within a plan: the server ends it by its statement_timeout; it is read-only and holds a reader's lock.

Nothing is counted twice, because baseline and rows are the same commit; nothing is lost but what PostgreSQL
itself forgets: an entry that is evicted between two looks takes with it what it gathered since the last one
(`evictions` tells), and a crash takes all of it (difference.py has the cases). A second collector at the same
time is refused by the lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime

import psycopg

from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.ingestion.state import read_epoch
from bilten_orchestration.observability.queries import (
    baseline,
    plans,
    prerequisites,
    samples,
    statistics,
    text,
)
from bilten_orchestration.observability.queries.difference import Basis, Difference, difference, slow
from bilten_orchestration.observability.queries.prerequisites import Facts
from bilten_orchestration.observability.queries.statistics import Counters, Key, Reading
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import QuerySettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import LET_GO_SECONDS, advisory_lock
from bilten_orchestration.stores.postgres import Connection

LOCK = "slow-queries"
TABLE = "system.slow_queries"


@dataclass(frozen=True, slots=True)
class DatabaseLook:
    """What one look found in one database. `since` is None where nothing could be counted (`basis` says why).
    `slow` are rows written, `statements` what ran at all."""

    database: str
    basis: Basis
    since: datetime | None
    statements: int
    calls: int
    total_milliseconds: float
    slow: int
    fell: int


@dataclass(frozen=True, slots=True)
class LookReport:
    """`evictions`: entries that PostgreSQL dropped since the last look; many of them mean that
    pg_stat_statements.max is too small and that numbers are too low."""

    at: datetime
    databases: tuple[DatabaseLook, ...]
    evictions: int
    entries: int
    plans: int
    plans_refused: int

    @property
    def slow(self) -> int:
        return sum(each.slow for each in self.databases)


def collect(settings: Settings, *, progress: Progress = silent) -> LookReport:
    """Look once.

    Raises Refused with every missing prerequisite, or on a standby; LockHeld; Mismatch where the month has no
    partition; StoreUnavailable.
    """
    queries = settings.queries
    with (
        postgres.connect(
            settings.postgres, application_name="bilten slow queries", autocommit=True
        ) as connection,
        _told(),
        advisory_lock(connection, LOCK, wait_seconds=LET_GO_SECONDS),
    ):
        connection.execute(f"set statement_timeout = {queries.read_seconds * 1000:d}")
        facts = require(connection)
        epoch = asdict(read_epoch(connection))
        databases = {settings.postgres.database, settings.postgres.dagster_database}
        with connection.transaction():
            reading = statistics.read(connection, facts, databases)
            before, looks = baseline.read(connection), baseline.looks(connection)
            found = {
                oid: difference(looks.get(oid), before, reading, epoch, oid) for oid in reading.databases
            }
            chosen = [
                (oid, key)
                for oid, each in found.items()
                for key in slow(
                    each.counted, mean_milliseconds=queries.slow_milliseconds, top=queries.top_statements
                )
            ]
            _write_slow(connection, facts, reading, found, chosen)
            baseline.add_to_day(connection, reading.at, _by_statement(found), queries.day_totals_days)
            samples.write(connection, reading, found, queries.day_totals_days)
            baseline.write(connection, reading, before, epoch)
        progress(f"{len(reading.entries)} statements looked at, {len(chosen)} recorded")
        planned, refused = _plans(connection, queries, settings.postgres.database)
    return LookReport(
        reading.at,
        tuple(_of(oid, each, chosen) for oid, each in found.items()),
        max((each.evictions for each in found.values()), default=0),
        len(reading.entries),
        planned,
        refused,
    )


def require(connection: Connection) -> Facts:
    """Raises Refused with every missing prerequisite at once."""
    facts = prerequisites.read(connection)
    if missing := prerequisites.problems(facts):
        raise Refused(missing)
    return facts


def _of(oid: int, each: Difference, chosen: Sequence[tuple[int, Key]]) -> DatabaseLook:
    return DatabaseLook(
        each.database,
        each.basis,
        each.since,
        len(each.counted),
        sum(counters.calls for counters in each.counted.values()),
        sum(counters.total_milliseconds for counters in each.counted.values()),
        sum(1 for database, _ in chosen if database == oid),
        len(each.fell),
    )


def _by_statement(found: dict[int, Difference]) -> dict[tuple[str, int], Counters]:
    """Roles and levels added up: a week is compared by statement."""
    totals: dict[tuple[str, int], Counters] = {}
    for each in found.values():
        for key, counters in each.counted.items():
            name = (each.database, key.query_id)
            totals[name] = totals[name].plus(counters) if name in totals else counters
    return totals


def _write_slow(
    connection: Connection,
    facts: Facts,
    reading: Reading,
    found: dict[int, Difference],
    chosen: Sequence[tuple[int, Key]],
) -> None:
    keys = [key for _, key in chosen]
    raw = statistics.texts(connection, facts, keys)
    roles = statistics.roles(connection, {key.role_oid for key in keys})
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into system.slow_queries (query_id, query_text, database_name, role_name, execution_time,"
            " total_time, calls, rows_returned, shared_blocks_hit, shared_blocks_read, temp_blocks_written,"
            ' wal_bytes, is_toplevel, since, "timestamp", created_at)'
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    key.query_id,
                    text.masked(raw[key]) if key in raw else text.EVICTED,
                    reading.databases[oid],
                    roles.get(key.role_oid),
                    counters.total_milliseconds / counters.calls,
                    counters.total_milliseconds,
                    counters.calls,
                    counters.rows,
                    counters.shared_blocks_hit,
                    counters.shared_blocks_read,
                    counters.temp_blocks_written,
                    counters.wal_bytes,
                    key.is_toplevel,
                    found[oid].since,
                    reading.at,
                    reading.at,
                )
                for oid, key in chosen
                for counters in (found[oid].counted[key],)
            ],
        )


ASKED = "it was asked for within plan_again_hours"

# created_at bounds the partitions, "timestamp" is the same moment and has the index
_WANTED = """
    select s.id, s.created_at, s.query_text,
           exists (select from system.slow_queries e
                   where e.query_id = s.query_id and e.database_name = s.database_name
                     and (e.plan is not null or e.plan_refused <> %(asked)s)
                     and e.created_at > clock_timestamp() - make_interval(hours => %(again)s)
                     and e."timestamp" > clock_timestamp() - make_interval(hours => %(again)s))
    from system.slow_queries s
    where s.created_at > clock_timestamp() - interval '1 hour'
      and s."timestamp" > clock_timestamp() - interval '1 hour' and s.plan is null and s.plan_refused is null
      and s.database_name = %(database)s
    order by s.total_time desc, s.id
"""


def _plans(connection: Connection, queries: QuerySettings, database: str) -> tuple[int, int]:
    """Ask for the plans of the last hour's rows that have none; how many came and how many were refused."""
    if queries.plans_per_look == 0:
        return 0, 0
    made = refused = 0
    rows = connection.execute(
        _WANTED, {"again": queries.plan_again_hours, "database": database, "asked": ASKED}
    ).fetchall()
    for id_, created_at, statement, younger in rows:
        document: str | None = None
        reason = plans.refusal(statement, connection.info.server_version)
        if reason is None and younger:
            reason = ASKED
        if reason is None:
            if made + refused >= queries.plans_per_look:
                continue
            document, reason = plans.plan(connection, statement, queries.plan_milliseconds)
            made, refused = made + (document is not None), refused + (document is None)
        connection.execute(
            "update system.slow_queries set plan = %s, plan_refused = %s where id = %s and created_at = %s",
            (document, reason, id_, created_at),
        )
    return made, refused


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the driver as ours; the one that people meet on the first of a month with its remedy."""
    with translated("a look at its statements"):
        try:
            yield
        except psycopg.errors.CheckViolation as error:
            if "no partition of relation" not in str(error):
                raise
            raise Mismatch(
                f"{TABLE} has no partition for this month: nothing was recorded, and the baseline stands",
                expected="a partition ready ahead",
                found=error.diag.message_primary or str(error),
                next="bilten partitions apply",
            ) from None
