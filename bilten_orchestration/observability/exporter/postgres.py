"""PostgreSQL as its own statistics tell it: who is connected and waits, how old transactions are, what each
database did, and what statements took at the last look.

Asked in nine statements on one connection, with those of postgres_wal.py; nearly all are answered from the
server's memory. The role needs pg_monitor, as the owner has it. Sizes of tables are in postgres_tables.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bilten_orchestration.observability.exporter import postgres_wal
from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.series import Collected, counter, gauge
from bilten_orchestration.observability.sources import bounded
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

_SECONDS: Final = 15.0
_P = "bilten_postgres_"
#: Databases that are not of this platform, in one.
OTHERS: Final = "other"
#: The platform's own; a state that nobody is in is told as 0 and does not vanish.
_STATES: Final = ("active", "idle", "idle in transaction", "idle in transaction (aborted)")

CONNECTIONS = gauge(f"{_P}connections", "Client connections", "database", "state")
CONNECTIONS_LIMIT = gauge(f"{_P}connections_limit", "Connections for all who are no superusers")
STARTED = gauge(f"{_P}start_timestamp_seconds", "When the server started")
IN_RECOVERY = gauge(f"{_P}in_recovery", "Whether it is a standby, or replays WAL")
TRANSACTION_AGE = gauge(f"{_P}oldest_transaction_age_seconds", "Age of the oldest open transaction")
IDLE_AGE = gauge(
    f"{_P}longest_idle_in_transaction_seconds", "How long a client has been idle in a transaction at most"
)
QUERY_AGE = gauge(f"{_P}longest_query_seconds", "How long a statement has been running at most")
SLOW_RUNNING = gauge(f"{_P}slow_queries_running", "Statements that run for longer than what counts as slow")
LOCKS_WAITING = gauge(f"{_P}locks_waiting", "Lock requests that are not granted")
LOCK_WAIT = gauge(f"{_P}longest_lock_wait_seconds", "How long a lock has been waited for at most")
PREPARED = gauge(f"{_P}prepared_transactions", "Prepared transactions")
PREPARED_AGE = gauge(f"{_P}oldest_prepared_transaction_age_seconds", "Age of the oldest prepared one")
XMIN_AGE = gauge(
    f"{_P}xmin_age_transactions",
    "Transactions since the oldest one that a client, slot or prepared transaction still needs rows of",
)
AUTOVACUUMS = gauge(f"{_P}autovacuum_workers", "Autovacuum workers at work")
XID_AGE = gauge(
    f"{_P}transaction_id_age_transactions",
    "Transactions since the oldest row that is not frozen; at 2 to the 31st writing would end",
    "database",
)
MULTIXACT_AGE = gauge(f"{_P}multixact_id_age_transactions", "The same of multixacts", "database")
FREEZE_LIMIT = gauge(
    f"{_P}freeze_max_age_transactions", "Age at which PostgreSQL begins a vacuum against wraparound"
)
COMMITS = counter(f"{_P}commits_total", "Transactions that committed", "database")
ROLLBACKS = counter(f"{_P}rollbacks_total", "Transactions that rolled back", "database")
BLOCKS_HIT = counter(f"{_P}blocks_hit_total", "Blocks found in shared buffers", "database")
BLOCKS_READ = counter(f"{_P}blocks_read_total", "Blocks not found there", "database")
TEMP_FILES = counter(f"{_P}temp_files_total", "Temporary files of statements", "database")
TEMP_BYTES = counter(f"{_P}temp_written_bytes_total", "Bytes written to them", "database")
DEADLOCKS = counter(f"{_P}deadlocks_total", "Deadlocks", "database")
CONFLICTS = counter(f"{_P}conflicts_total", "Statements canceled by recovery on a standby", "database")
CHECKSUM_FAILURES = counter(f"{_P}checksum_failures_total", "Pages with a wrong checksum", "database")
ROWS = counter(f"{_P}rows_total", "Rows by what was done", "database", "operation")
STATEMENTS_AT = gauge(
    f"{_P}statements_looked_at_timestamp_seconds", "When statement statistics were last looked at", "database"
)
STATEMENT_MEAN = gauge(
    f"{_P}statement_duration_mean_seconds", "Mean of a statement between the last two looks", "database"
)
SLOW = gauge(f"{_P}slow_statements", "Statements whose mean was slow at the last look", "database")
SLOW_LIMIT = gauge(f"{_P}slow_statement_limit_seconds", "From where on a statement counts as slow")

_CONNECTIONS = """
    select case when datname = any(%(ours)s) then datname else 'other' end, coalesce(state, 'unknown'),
           count(*)
    from pg_stat_activity where backend_type = 'client backend' group by 1, 2
"""

# one row; waits of clients alone, and not of who asks
_ACTIVITY = """
    with clients as materialized (
        select state, xact_start, query_start, state_change from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()
    )
    select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
           extract(epoch from pg_postmaster_start_time())::float8,
           pg_is_in_recovery()::int,
           (select coalesce(extract(epoch from clock_timestamp() - min(xact_start)), 0)::float8 from clients),
           (select coalesce(extract(epoch from clock_timestamp() - min(state_change)), 0)::float8 from clients
            where state like 'idle in transaction%%'),
           (select coalesce(extract(epoch from clock_timestamp() - min(query_start)), 0)::float8 from clients
            where state = 'active'),
           (select count(*) from clients
            where state = 'active' and query_start < clock_timestamp() - make_interval(secs => %(slow)s)),
           (select count(*) from pg_stat_activity where backend_type = 'autovacuum worker'),
           (select count(*) from pg_prepared_xacts),
           (select coalesce(extract(epoch from clock_timestamp() - min(prepared)), 0)::float8
            from pg_prepared_xacts),
           (select coalesce(max(age(held)), 0) from (
                select backend_xmin from pg_stat_activity
                union all select xmin from pg_replication_slots
                union all select catalog_xmin from pg_replication_slots
                union all select transaction from pg_prepared_xacts) as all_of_them(held)),
           current_setting('autovacuum_freeze_max_age')::bigint
"""

# taken apart from the rest: it holds all lock partitions for a moment
_LOCKS = """
    select count(*), coalesce(extract(epoch from clock_timestamp() - min(waitstart)), 0)::float8
    from pg_locks where not granted
"""

# templates too: an old row in any of them ends writing in all
_AGES = """
    select case when datname = any(%(ours)s) then datname else 'other' end, max(age(datfrozenxid)),
           max(mxid_age(datminmxid))
    from pg_database group by 1
"""

_DATABASES = """
    select s.datname, s.xact_commit, s.xact_rollback, s.blks_hit, s.blks_read,
           s.temp_files, s.temp_bytes, s.deadlocks, s.conflicts, s.checksum_failures, s.tup_returned,
           s.tup_fetched, s.tup_inserted, s.tup_updated, s.tup_deleted
    from pg_stat_database s where s.datname = any(%(ours)s)
"""
_COUNTED: Final = (
    COMMITS, ROLLBACKS, BLOCKS_HIT, BLOCKS_READ, TEMP_FILES, TEMP_BYTES, DEADLOCKS, CONFLICTS,
    CHECKSUM_FAILURES,
)  # fmt: skip
_OPERATIONS: Final = ("returned", "fetched", "inserted", "updated", "deleted")

# the rows of a look have its time (queries/collect.py); created_at bounds the partitions that are read
_STATEMENTS = """
    select l.database_name, extract(epoch from l.sampled_at)::float8,
           l.total_milliseconds / nullif(l.calls, 0) / 1000,
           (select count(*) from system.slow_queries q
            where q."timestamp" = l.sampled_at and q.created_at = l.sampled_at
              and q.database_name = l.database_name and q.execution_time > %(slow)s * 1000)
    from unnest(%(ours)s::text[]) as d(name)
    cross join lateral (select * from system.database_samples s where s.database_name = d.name
                        order by s.sampled_at desc limit 1) l
"""


@dataclass(frozen=True, slots=True)
class PostgresInternals:
    settings: Settings
    name: str = "metrics/postgres"
    needs: tuple[str, ...] = ("store/postgres",)

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.metrics_seconds

    def read(self) -> Reading:
        found = Collected()
        with bounded.connected(self.settings, "the look at its statistics", seconds=_SECONDS) as connection:
            _activity(connection, found, self.settings)
            _databases(connection, found, self.settings)
            postgres_wal.collect(connection, found)
        return Reading(samples=found.samples)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


def _ours(settings: Settings) -> list[str]:
    return sorted({settings.postgres.database, settings.postgres.dagster_database})


def _slow(settings: Settings) -> float:
    return settings.queries.slow_milliseconds / 1000


def _activity(connection: Connection, found: Collected, settings: Settings) -> None:
    given = {"ours": _ours(settings), "slow": _slow(settings)}
    states = {(database, state): 0 for database in (*_ours(settings), OTHERS) for state in _STATES}
    states |= {(database, state): count for database, state, count in connection.execute(_CONNECTIONS, given)}
    for (database, state), count in states.items():
        found.add(CONNECTIONS, count, database, state)
    row = connection.execute(_ACTIVITY, given).fetchone()
    families = (
        CONNECTIONS_LIMIT, STARTED, IN_RECOVERY, TRANSACTION_AGE, IDLE_AGE, QUERY_AGE, SLOW_RUNNING,
        AUTOVACUUMS, PREPARED, PREPARED_AGE, XMIN_AGE, FREEZE_LIMIT,
    )  # fmt: skip
    for family, value in zip(families, row or (), strict=True):
        found.add(family, value)
    row = connection.execute(_LOCKS).fetchone()
    for family, value in zip((LOCKS_WAITING, LOCK_WAIT), row or (), strict=True):
        found.add(family, value)
    for database, age, multixacts in connection.execute(_AGES, given):
        found.add(XID_AGE, age, database)
        found.add(MULTIXACT_AGE, multixacts, database)


def _databases(connection: Connection, found: Collected, settings: Settings) -> None:
    given = {"ours": _ours(settings), "slow": _slow(settings)}
    for database, *values in connection.execute(_DATABASES, given):
        counted, rows = values[: len(_COUNTED)], values[len(_COUNTED) :]
        for family, value in zip(_COUNTED, counted, strict=True):
            found.add(family, value, database)
        for operation, value in zip(_OPERATIONS, rows, strict=True):
            found.add(ROWS, value, database, operation)
    found.add(SLOW_LIMIT, _slow(settings))
    for database, at, mean, slow in connection.execute(_STATEMENTS, given):
        found.add(STATEMENTS_AT, at, database)
        found.add(STATEMENT_MEAN, mean, database)
        found.add(SLOW, slow, database)
