"""Looks at the statistics of a real server: nothing twice, nothing negative, nothing of before, no secret."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from bilten_orchestration.errors import LockHeld, Mismatch, Refused
from bilten_orchestration.migrations import runner
from bilten_orchestration.observability.queries import collect as module
from bilten_orchestration.observability.queries.collect import LOCK, LookReport, collect
from bilten_orchestration.partitions.postgres.premake import ensure_months
from bilten_orchestration.settings import QuerySettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection
from tests import stack
from tests.kills import killed_at_store
from tests.waiting import until

MARKED = "select count(*) from system.heartbeats where source like $1 and beat > $2"


def _run(owner: Connection, times: int) -> None:
    """A statement that nothing else sends, so many times."""
    for number in range(times):
        owner.execute(f"select count(*) from system.heartbeats where source like 'a{number}%' and beat > 1")


def _days(owner: Connection, text: str = MARKED) -> int:
    """Calls of the statement, as the totals per day have them."""
    row = owner.execute(
        "select coalesce(sum(calls), 0)::bigint from system.statement_days where database_name ="
        " current_database() and query_id in"
        " (select query_id from system.slow_queries where query_text = %s)",
        (text,),
    ).fetchone()
    assert row is not None
    return int(row[0])


def _slow(owner: Connection, text: str = MARKED) -> list[tuple[Any, ...]]:
    return owner.execute(
        "select calls, total_time, execution_time, rows_returned, role_name, database_name, since,"
        ' "timestamp", plan, plan_refused from system.slow_queries where query_text = %s order by created_at',
        (text,),
    ).fetchall()


def _ours(report: LookReport, settings: Settings) -> Any:
    return next(each for each in report.databases if each.database == settings.postgres.database)


def _with(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update={"queries": QuerySettings(**values)})


def test_what_was_before_the_first_look_is_not_counted(database: Settings, owner: Connection) -> None:
    _run(owner, 7)
    first = _ours(collect(database), database)
    assert (first.basis, first.since, first.slow) == ("first look", None, 0)
    assert owner.execute("select count(*) from system.slow_queries").fetchone() == (0,)
    assert owner.execute("select count(*) from system.statement_days").fetchone() == (0,)
    _run(owner, 3)
    second = _ours(
        collect(
            _with(database, top_statements=1000),
        ),
        database,
    )
    assert second.basis == "since last look"
    [row] = _slow(owner)
    assert row[0] == 3
    assert row[3] == 3  # rows
    assert row[1] == pytest.approx(row[2] * 3)
    assert row[4:6] == (database.postgres.user, database.postgres.database)
    assert row[6] < row[7]
    assert _days(owner) == 3


def test_two_looks_count_once_and_a_quiet_time_counts_nothing(database: Settings, owner: Connection) -> None:
    every = _with(database, top_statements=1000)
    collect(every)
    _run(owner, 5)
    collect(every)
    collect(every)
    _run(owner, 2)
    collect(every)
    assert [row[0] for row in _slow(owner)] == [5, 2]
    assert _days(owner) == 7


def test_slow_by_the_mean_and_heavy_by_the_total(database: Settings, owner: Connection) -> None:
    chosen = _with(database, top_statements=0, slow_milliseconds=150)
    collect(chosen)
    owner.execute("select pg_sleep(0.2), 1 as slow")
    owner.execute("select pg_sleep(0.01), 2 as quick, 3 as quicker")
    collect(chosen)
    texts = [text for (text,) in owner.execute("select query_text from system.slow_queries").fetchall()]
    assert "select pg_sleep($1), $2 as slow" in texts
    assert "select pg_sleep($1), $2 as quick, $3 as quicker" not in texts
    owner.execute("select pg_sleep(0.01), 2 as quick, 3 as quicker")
    owner.execute("select pg_sleep(0.14), 4 as heavy, 5 as heavier, 6 as heaviest")
    report = _ours(collect(_with(database, top_statements=1, slow_milliseconds=60_000)), database)
    assert report.slow == 1


def test_a_reset_counts_all_that_came_after_it(
    database: Settings, owner: Connection, postgres_server: Any
) -> None:
    every = _with(database, top_statements=1000)
    _run(owner, 9)
    collect(every)
    with postgres.connect(
        postgres_server.model_copy(update={"database": database.postgres.database}), autocommit=True
    ) as superuser:
        superuser.execute(
            "select pg_stat_statements_reset(0, oid, 0) from pg_database where datname = current_database()"
        )
        _run(owner, 4)
        collect(every)  # entries were made again: fewer calls than the baseline has
        assert [row[0] for row in _slow(owner)] == [4]
        superuser.execute("select pg_stat_statements_reset()")
    _run(owner, 2)
    report = _ours(collect(every), database)
    assert report.basis == "since reset"
    assert [row[0] for row in _slow(owner)] == [4, 2]
    assert _days(owner) == 6


def test_counters_of_another_server_are_not_counted(database: Settings, owner: Connection) -> None:
    every = _with(database, top_statements=1000)
    collect(every)
    _run(owner, 5)
    owner.execute("update system.statement_looks set epoch = jsonb_set(epoch, '{timeline}', '99')")
    assert _ours(collect(every), database).basis == "other server"
    assert _slow(owner) == []
    _run(owner, 1)
    collect(every)
    assert [row[0] for row in _slow(owner)] == [1]


def test_secrets_of_utility_statements_are_never_stored(
    database: Settings, owner: Connection, postgres_server: Any
) -> None:
    every = _with(database, top_statements=1000)
    collect(every)
    with postgres.connect(
        postgres_server.model_copy(update={"database": database.postgres.database}), autocommit=True
    ) as superuser:
        superuser.execute("create role leaky password 'sesame-1'")
        try:
            superuser.execute("alter role leaky password 'sesame-2'")
            superuser.execute("explain select * from system.heartbeats where source = 'sesame-3'")
            superuser.execute("comment on role leaky is 'sesame-4'")
            seen = superuser.execute("select string_agg(query, ' ') from pg_stat_statements").fetchone()
            assert seen is not None
            assert "sesame-2" in seen[0]  # PostgreSQL itself keeps it
        finally:
            superuser.execute("drop role leaky")
    collect(every)
    found = owner.execute("select string_agg(s::text, ' ') from system.slow_queries s").fetchone()
    assert found is not None
    assert "ALTER ROLE ..." in found[0]
    assert "sesame" not in found[0]


def test_a_select_gets_a_plan_that_nothing_executed(database: Settings, owner: Connection) -> None:
    every = _with(database, top_statements=1000, plans_per_look=1000)
    collect(every)
    _run(owner, 2)
    owner.execute("insert into system.heartbeats (source) values ('planned') on conflict do nothing")
    owner.execute("select now() - interval '1 day' as then_")
    collect(every)
    [row] = _slow(owner)
    assert row[8][0]["Plan"]["Node Type"] == "Aggregate"
    assert row[9] is None
    [then] = _slow(owner, "select now() - interval $1 as then_")
    assert then[8] is not None, then[9]
    [inserted] = _slow(owner, "insert into system.heartbeats (source) values ($1) on conflict do nothing")
    assert inserted[8] is None
    assert inserted[9] == "not a statement that only reads"
    _run(owner, 1)
    collect(every)
    assert _slow(owner)[1][9] == module.ASKED


def test_a_plan_waits_for_no_lock(database: Settings, owner: Connection) -> None:
    every = _with(database, top_statements=1000, plans_per_look=1000)
    collect(every)
    _run(owner, 1)
    with postgres.connect(database.postgres) as holder:
        holder.execute("lock table system.heartbeats in access exclusive mode")
        collect(every)
    [row] = _slow(owner)
    assert row[8] is None
    assert "lock timeout" in row[9]


def test_everything_that_is_missing_is_said_with_its_remedy(database: Settings, postgres_server: Any) -> None:
    poor = database.model_copy(
        update={
            "postgres": database.postgres.model_copy(
                update={"user": "bilten_app", "password": database.postgres.app_password}
            )
        }
    )
    with postgres.connect(
        postgres_server.model_copy(update={"database": database.postgres.database}), autocommit=True
    ) as superuser:
        superuser.execute("drop extension pg_stat_statements")
    with pytest.raises(Refused) as refused:
        collect(poor)
    steps = [problem.next for problem in refused.value.problems]
    assert any(step.startswith("create extension pg_stat_statements") for step in steps)
    assert "grant pg_read_all_stats to bilten_app" in steps


def test_a_month_without_partition_moves_no_baseline(database: Settings, owner: Connection) -> None:
    every = _with(database, top_statements=1000)
    collect(every)
    name = f"system.slow_queries_p{datetime.now(UTC):%Y%m}"
    _run(owner, 3)
    owner.execute(sql.SQL("alter table system.slow_queries detach partition {}").format(sql.SQL(name)))
    with pytest.raises(Mismatch, match="no partition for this month"):
        collect(every)
    bounds = datetime.now(UTC).replace(day=1).date()
    following = (bounds + timedelta(days=32)).replace(day=1)
    owner.execute(
        sql.SQL("alter table system.slow_queries attach partition {} for values from ({}) to ({})").format(
            sql.SQL(name),
            bounds,
            following,
        )
    )
    collect(every)
    assert [row[0] for row in _slow(owner)] == [3]


def test_one_collector_at_a_time(database: Settings, owner: Connection, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "LET_GO_SECONDS", 0)
    with advisory_lock(owner, LOCK), pytest.raises(LockHeld):
        collect(database)


@pytest.mark.parametrize("plans", [0, pytest.param(3, marks=pytest.mark.faults)])
def test_kills_lose_and_double_nothing(database: Settings, owner: Connection, plans: int) -> None:
    """Killed at every turn to the server, one after the other: the calls add up."""
    every = _with(database, top_statements=1000, plans_per_look=plans)
    collect(every)
    sent = number = 0
    while True:
        _run(owner, 2)
        sent, number = sent + 2, number + 1
        killed = killed_at_store(lambda: collect(every), number)
        until(lambda: _alone(owner), "the server sees that the collector is gone")
        if not killed:
            break
    assert number > 5
    collect(every)
    assert sum(row[0] for row in _slow(owner)) == _days(owner) == sent


def _alone(owner: Connection) -> bool:
    return owner.execute(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name = 'bilten slow queries'"
    ).fetchone() == (0,)


@pytest.mark.faults
def test_writers_in_parallel_are_counted_once(database: Settings, owner: Connection) -> None:
    every = _with(database, top_statements=1000, plans_per_look=0)
    collect(every)

    def work() -> None:
        with postgres.connect(database.postgres, autocommit=True) as connection:
            _run(connection, 200)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        collect(every)
    collect(every)
    assert sum(row[0] for row in _slow(owner)) == _days(owner) == 400


@pytest.mark.faults
def test_a_clean_restart_goes_on_and_a_crash_begins_anew(
    own_postgres: stack.PostgresServer, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, environment="test", postgres=own_postgres.settings())
    every = _with(settings, top_statements=1000, plans_per_look=0)
    runner.up(settings, store="postgres")
    today = datetime.now(UTC).date()
    with postgres.connect(settings.postgres, autocommit=True) as owner:
        ensure_months(owner, "system.slow_queries", today, today)
        _run(owner, 5)
        collect(every)
        _run(owner, 3)
    own_postgres.stop()
    own_postgres.start()
    with postgres.connect(settings.postgres, autocommit=True) as owner:
        _run(owner, 1)
        assert _ours(collect(every), settings).basis == "since last look"
        assert [row[0] for row in _slow(owner)] == [4]
    own_postgres.kill()
    own_postgres.start()
    with postgres.connect(settings.postgres, autocommit=True) as owner:
        _run(owner, 2)
        assert _ours(collect(every), settings).basis == "since reset"
        assert [row[0] for row in _slow(owner)] == [4, 2]
