"""PostgreSQL's numbers against what the server says itself, in a database that nobody else is in."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest
from psycopg.pq import ExecStatus

from bilten_orchestration.errors import TerminalError
from bilten_orchestration.migrations import runner
from bilten_orchestration.observability.exporter.postgres import PostgresInternals
from bilten_orchestration.observability.exporter.postgres_tables import PostgresSizes
from bilten_orchestration.observability.queries import collect, tables
from bilten_orchestration.settings import QuerySettings, ServeSettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests import other_postgres
from tests.conftest import Servers
from tests.integration.observability.exporter.conftest import Series, series
from tests.waiting import until


def read(settings: Settings) -> Series:
    return series(PostgresInternals(settings))


def one(owner: Connection, statement: str) -> float:
    row = owner.execute(statement).fetchone()
    assert row is not None
    return float(row[0])


def another(settings: Settings, *, autocommit: bool = True) -> Connection:
    return postgres.connect(settings.postgres, autocommit=autocommit)


def test_who_is_connected_and_who_waits(database: Settings, owner: Connection) -> None:
    name = database.postgres.database
    slow = database.model_copy(update={"queries": QuerySettings(slow_milliseconds=1)})
    with ExitStack() as stack:
        idle = stack.enter_context(another(database))
        holder = stack.enter_context(another(database, autocommit=False))
        holder.execute("lock table system.heartbeats in access exclusive mode")
        waiter = stack.enter_context(another(database))
        waiting = threading.Thread(target=waiter.execute, args=("select * from system.heartbeats",))
        waiting.start()
        until(lambda: read(slow)["postgres_locks_waiting",] == 1, "somebody waits")
        until(lambda: read(slow)["postgres_slow_queries_running",] == 1, "that one is slow")
        found = read(slow)
        assert found["postgres_connections", name, "idle"] == 2  # `owner` and `idle`
        assert found["postgres_connections", name, "idle in transaction"] == 1
        assert found["postgres_connections", name, "active"] == 2  # `waiter`, and who reads
        assert found["postgres_connections", name, "idle in transaction (aborted)"] == 0
        for age in (
            "oldest_transaction_age_seconds",
            "longest_idle_in_transaction_seconds",
            "longest_query_seconds",
            "longest_lock_wait_seconds",
        ):
            assert 0 < found[f"postgres_{age}",] < 600, age
        assert found["postgres_oldest_transaction_age_seconds",] >= found["postgres_longest_query_seconds",]
        holder.rollback()
        waiting.join()
        found = read(slow)
        assert found["postgres_locks_waiting",] == found["postgres_longest_lock_wait_seconds",] == 0
        assert found["postgres_connections", name, "idle in transaction"] == 0
        assert idle.execute("select 1").fetchone() == (1,)
    limit = one(
        owner,
        "select current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
        " - current_setting('reserved_connections')::int",
    )
    assert found["postgres_connections_limit",] == limit


def test_counters_of_a_database_are_the_servers(database: Settings, owner: Connection) -> None:
    name = database.postgres.database

    def said() -> dict[str, float]:
        row = owner.execute(
            "select xact_commit, xact_rollback, blks_hit, temp_files, temp_bytes, deadlocks, tup_inserted"
            " from pg_stat_database where datname = current_database()"
        ).fetchone()
        names = ("commits", "rollbacks", "blocks_hit", "temp_files", "temp_written_bytes", "deadlocks")
        return dict(zip((*names, "inserted"), map(float, row or ()), strict=True))

    before = read(database)
    with another(database) as busy:
        for _ in range(3):
            busy.execute("insert into system.heartbeats (source, beat, beat_at) values ('m', 1, now())"
                         " on conflict (source) do update set beat = 2")  # fmt: skip
        with suppress(psycopg.errors.DivisionByZero):
            busy.execute("select 1 / 0")
        busy.execute("set work_mem = '64kB'")
        busy.execute("select count(*) from (select n from generate_series(1, 50000) n order by -n) as sorted")
    deadlock(database)
    low = said()
    until(lambda: read(database)["postgres_deadlocks_total", name] == 1, "the server has counted it")
    until(lambda: read(database)["postgres_temp_files_total", name] > 0, "the server has counted them")
    found = read(database)
    high = said()
    for counted in ("commits", "rollbacks", "blocks_hit", "temp_files", "temp_written_bytes"):
        value = found[f"postgres_{counted}_total", name]
        assert low[counted] <= value <= high[counted], counted
        assert value > before[f"postgres_{counted}_total", name], counted
    assert low["inserted"] <= found["postgres_rows_total", name, "inserted"] <= high["inserted"]
    assert found["postgres_deadlocks_total", name] == high["deadlocks"] == 1


def deadlock(settings: Settings) -> None:
    """Two that wait for each other's lock: the server ends one of them."""
    ended: list[bool] = []
    with another(settings, autocommit=False) as first, another(settings, autocommit=False) as second:
        first.execute("select pg_advisory_xact_lock(71)")
        second.execute("select pg_advisory_xact_lock(72)")

        def wait(connection: Connection, lock: int) -> None:
            try:
                connection.execute("select pg_advisory_xact_lock(%s)", (lock,))
            except psycopg.errors.DeadlockDetected:
                ended.append(True)
            connection.rollback()

        threads = [threading.Thread(target=wait, args=given) for given in ((first, 72), (second, 71))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ended == [True]


def test_old_transactions_and_the_ids_they_hold(database: Settings, owner: Connection) -> None:
    name = database.postgres.database
    before = read(database)["postgres_transaction_id_age_transactions", name]
    with another(database, autocommit=False) as preparing:
        preparing.execute("select pg_current_xact_id()")
        preparing.execute("prepare transaction 'metrics'")
    for _ in range(5):
        owner.execute("select pg_current_xact_id()")
    found = read(database)
    prepared = one(owner, "select count(*) from pg_prepared_xacts")
    owner.execute("rollback prepared 'metrics'")
    assert found["postgres_prepared_transactions",] == prepared == 1
    assert found["postgres_oldest_prepared_transaction_age_seconds",] > 0
    assert found["postgres_xmin_age_transactions",] >= 5
    assert found["postgres_transaction_id_age_transactions", name] >= before + 6
    assert found["postgres_transaction_id_age_transactions", name] <= one(
        owner, "select age(datfrozenxid) from pg_database where datname = current_database()"
    )
    assert found["postgres_transaction_id_age_transactions", "other"] > 0
    assert found["postgres_freeze_max_age_transactions",] == one(
        owner, "select current_setting('autovacuum_freeze_max_age')"
    )
    assert read(database)["postgres_prepared_transactions",] == 0


@contextmanager
def receiving(settings: Settings, slot: str) -> Iterator[None]:
    """A receiver of WAL that says it has flushed all that there was before it came."""
    given = postgres.parameters(settings.postgres, application_name="metrics-test")
    with psycopg.connect(autocommit=True, **given) as connection:
        row = connection.execute("select (pg_current_wal_lsn() - '0/0')::bigint").fetchone()
        assert row is not None
    del given["dbname"], given["options"]
    conninfo = psycopg.conninfo.make_conninfo(**given, replication="true")
    receiver = psycopg.pq.PGconn.connect(conninfo.encode())
    try:
        high, low = divmod(int(row[0]), 1 << 32)
        receiver.send_query(f"START_REPLICATION SLOT {slot} PHYSICAL {high:X}/{low:X}".encode())
        answer = receiver.get_result()
        assert answer is not None and answer.status == ExecStatus.COPY_BOTH, receiver.error_message
        # "Standby status update": written, flushed, applied, clock, no reply wanted
        receiver.put_copy_data(struct.pack("!cQQQQB", b"r", row[0], row[0], row[0], 0, 0))
        receiver.flush()
        yield
    finally:
        receiver.finish()


def test_wal_checkpoints_slots_and_who_receives(database: Settings, owner: Connection) -> None:
    before = read(database)
    owner.execute("select pg_create_physical_replication_slot('metrics_idle', true)")
    owner.execute("select pg_create_physical_replication_slot('metrics_used', true)")
    owner.execute("select pg_create_physical_replication_slot('metrics_session', true, true)")
    try:
        with receiving(database, "metrics_used"):
            owner.execute("select pg_logical_emit_message(true, 'metrics', repeat('x', 1 << 20))")
            owner.execute("checkpoint")

            def lag() -> float:
                return read(database).get(("postgres_replication_lag_bytes", "metrics-test"), 0)

            until(lambda: lag() > 1 << 20, "what it has not flushed is told")
            low = one(owner, "select wal_bytes from pg_stat_wal")
            found = read(database)
            high = one(owner, "select wal_bytes from pg_stat_wal")
            assert low <= found["postgres_wal_written_bytes_total",] <= high
            assert sum(
                value for key, value in found.items()
                if key[:2] == ("postgres_replication_senders", "metrics-test")
            ) == 1  # fmt: skip
            assert found["postgres_replication_slot_active", "metrics_used"] == 1
        assert found["postgres_replication_slot_active", "metrics_idle"] == 0
        assert found["postgres_replication_slots", "true"] == 2  # the session's own is in use as well
        assert found["postgres_replication_slots", "false"] >= 1
        assert found["postgres_replication_slot_lost", "metrics_idle"] == 0
        kept = one(
            owner,
            "select pg_current_wal_lsn() - restart_lsn from pg_replication_slots"
            " where slot_name = 'metrics_idle'",
        )
        assert 1 << 20 < found["postgres_replication_slot_retained_bytes", "metrics_idle"] <= kept
        assert found["postgres_replication_slot_safe_bytes", "metrics_idle"] > 0
        assert not [key for key in found if "metrics_session" in key]  # its name is gone with its session
    finally:
        for slot in ("metrics_session", "metrics_idle"):
            owner.execute("select pg_drop_replication_slot(%s)", (slot,))
        until(
            lambda: (
                not owner.execute(
                    "select active from pg_replication_slots where slot_name = 'metrics_used'"
                ).fetchone()[0]
            ),  # type: ignore[index]
            "nobody uses it",
        )
        owner.execute("select pg_drop_replication_slot('metrics_used')")
    assert found["postgres_wal_size_bytes",] >= 16 << 20
    requested = ("postgres_checkpoints_total", "requested")
    assert found[requested] > before[requested]
    assert found[requested] == one(owner, "select num_requested from pg_stat_checkpointer")
    for limit in ("max_wal_senders", "max_replication_slots"):
        told = f"postgres_replication_{'senders' if 'senders' in limit else 'slots'}_limit"
        assert found[told,] == one(owner, f"select current_setting('{limit}')::int")


def test_statements_of_the_last_look(database: Settings, owner: Connection) -> None:
    settings = database.model_copy(update={"queries": QuerySettings(slow_milliseconds=20)})
    name = database.postgres.database
    assert ("postgres_slow_statements", name) not in read(settings)  # nobody has looked
    collect.collect(settings)
    owner.execute("select pg_sleep(0.1)")
    report = collect.collect(settings)
    mine = next(each for each in report.databases if each.database == name)
    found = read(settings)
    slow = one(owner, "select count(*) from system.slow_queries where execution_time > 20")
    assert found["postgres_slow_statements", name] == slow >= 1
    assert found["postgres_slow_statement_limit_seconds",] == 0.02
    assert found["postgres_statement_duration_mean_seconds", name] == pytest.approx(
        mine.total_milliseconds / mine.calls / 1000
    )
    assert found["postgres_statements_looked_at_timestamp_seconds", name] == pytest.approx(
        report.at.timestamp()
    )


def sizes(settings: Settings, top: int) -> Series:
    few = settings.model_copy(update={"serve": ServeSettings(metrics_top=top)})
    return series(PostgresSizes(few))


def test_sizes_of_the_largest_tables_with_their_partitions(database: Settings, owner: Connection) -> None:
    owner.execute("create schema big")
    owner.execute("create table big.parent (n int primary key, filler text) partition by range (n)")
    for number in range(2):
        owner.execute(
            f"create table big.part_{number} partition of big.parent for values"
            f" from ({number * 20000}) to ({(number + 1) * 20000}) with (autovacuum_enabled = false)"
        )
    owner.execute("insert into big.parent select n, repeat('x', 200) from generate_series(0, 39999) n")
    owner.execute("vacuum (analyze) big.parent")
    owner.execute("delete from big.parent where n % 2 = 0")
    owner.execute("select count(*) from big.parent where n = 1")
    until(lambda: sizes(database, 1)["postgres_table_dead_rows", "big.parent"] == 20000, "all are counted")
    found = sizes(database, 1)
    assert {key[1] for key in found if key[0].startswith("postgres_table_")} == {"big.parent"}
    assert {key[1] for key in found if key[0].startswith("postgres_index_")} == {"big.parent_pkey"}
    assert found["postgres_table_size_bytes", "big.parent"] == one(
        owner, "select pg_table_size('big.part_0') + pg_table_size('big.part_1')"
    )
    index = one(owner, "select pg_indexes_size('big.part_0') + pg_indexes_size('big.part_1')")
    assert found["postgres_table_indexes_size_bytes", "big.parent"] == index
    assert found["postgres_index_size_bytes", "big.parent_pkey"] == index
    assert found["postgres_table_live_rows", "big.parent"] == one(
        owner, "select sum(n_live_tup) from pg_stat_user_tables where schemaname = 'big'"
    )
    assert found["postgres_database_size_bytes", database.postgres.database] == pytest.approx(
        one(owner, "select pg_database_size(current_database())"), rel=0.05
    )
    owner.execute("vacuum (analyze) big.parent")
    found = sizes(database, 1)
    parts = [each for each in tables.read(owner) if each.name.startswith("big.part_")]
    bloat = found["postgres_table_bloat_bytes", "big.parent"]
    assert bloat == sum(each.bloat_bytes or 0 for each in parts)
    assert bloat > 0.3 * found["postgres_table_size_bytes", "big.parent"]
    assert found["postgres_table_dead_rows", "big.parent"] == 0
    every = sizes(database, 200)
    assert len([key for key in every if key[0] == "postgres_table_size_bytes"]) == every["postgres_tables",]


def test_a_role_without_the_right_is_told_and_gives_no_numbers(database: Settings) -> None:
    little = database.postgres.model_copy(
        update={"user": "bilten_readonly", "password": database.postgres.readonly_password}
    )
    with pytest.raises(TerminalError, match="permission denied"):
        PostgresInternals(database.model_copy(update={"postgres": little})).read()


@pytest.mark.faults
@pytest.mark.parametrize("programs", other_postgres.each())
def test_older_majors_have_the_same_series(
    servers: Servers, programs: other_postgres.Programs, database: Settings
) -> None:
    with other_postgres.started(servers, programs) as server:
        older = database.model_copy(update={"postgres": server.settings()})
        runner.up(older, store="postgres")
        names = {key[0] for key in read(older)}
        assert names == {key[0] for key in read(database)}
        assert sizes(older, 20)["postgres_tables",] > 20
