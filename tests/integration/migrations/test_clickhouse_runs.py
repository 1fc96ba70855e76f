"""The runner against a real ClickHouse: no transactions, so every half-run file is run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from bilten_orchestration.errors import Refused, StoreUnavailable, TerminalError, UsageError
from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests.integration.migrations.conftest import Write

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

TABLE = "create table if not exists shop.{} (x Int8 comment 'a; b') engine = MergeTree order by x;\n"


@pytest.fixture
def client(empty_settings: Settings) -> Client:
    return clickhouse.connect(empty_settings.clickhouse)


@pytest.fixture
def shop(write: Write) -> None:
    write(
        "clickhouse",
        1,
        "shop",
        "-- description: A shop\ncreate database if not exists shop;\n"
        + TABLE.format("a")
        + TABLE.format("b"),
        "drop database if exists shop sync;",
    )


def tables(client: Client) -> list[str]:
    rows = client.query("select name from system.tables where database = 'shop' order by name").result_rows
    return [str(name) for (name,) in rows]


def states(settings: Settings, root: Path) -> list[str]:
    return [migration.state for migration in runner.status(settings, root=root).migrations]


@pytest.mark.usefixtures("shop")
def test_both_stores_keep_their_history_in_one_table(
    empty_settings: Settings, client: Client, root: Path, write: Write
) -> None:
    write("postgres", 1, "shop", "create schema shop;", "drop schema shop;")
    report = runner.up(empty_settings, root=root)
    assert [(step.store, step.version, step.statements) for step in report.steps] == [
        ("postgres", 1, 1),
        ("clickhouse", 1, 3),
    ]
    assert tables(client) == ["a", "b"]
    with postgres.connect(empty_settings.postgres) as connection:
        found = connection.execute(
            "select store, version, name, description, status from system.migrations order by store"
        ).fetchall()
    assert found == [
        ("clickhouse", 1, "shop", "A shop", "completed"),
        ("postgres", 1, "shop", "", "completed"),
    ]
    assert runner.up(empty_settings, root=root).steps == ()
    client.command("insert into shop.b values (1), (2)")
    preview = runner.down(empty_settings, store="clickhouse", target=0, root=root)
    assert [step.rows_lost for step in preview.steps] == [{"shop.a": 0, "shop.b": 2}]
    runner.down(empty_settings, store="clickhouse", target=0, execute=True, root=root)
    assert tables(client) == []
    assert states(empty_settings, root) == ["applied", "pending"]


@pytest.mark.usefixtures("shop")
def test_a_failure_in_the_middle_is_recorded_and_repeated_from_the_first_statement(
    empty_settings: Settings, client: Client, root: Path, write: Write
) -> None:
    runner.up(empty_settings, root=root)
    down = "drop table if exists shop.c sync; drop table if exists shop.d sync;"
    write(
        "clickhouse",
        2,
        "more",
        TABLE.format("c") + "create table if not exists shop.d (x Wrong) engine = Memory",
        down,
    )
    with pytest.raises(TerminalError) as caught:
        runner.up(empty_settings, root=root)
    problem = caught.value.problems[0]
    assert "clickhouse V0002 more" in problem.what
    assert "statement 2 of 2, line 2" in problem.what
    assert "Wrong" in problem.found
    assert "may be repeated" in problem.found
    assert tables(client) == ["a", "b", "c"]
    assert states(empty_settings, root) == ["applied", "failed"]

    write("clickhouse", 2, "more", TABLE.format("c") + TABLE.format("d"), down)
    runner.up(empty_settings, root=root)
    assert tables(client) == ["a", "b", "c", "d"]
    assert runner.status(empty_settings, root=root).problems == ()


@pytest.mark.usefixtures("shop")
def test_a_half_run_migration_can_be_taken_back_instead(
    empty_settings: Settings, client: Client, root: Path, write: Write
) -> None:
    runner.up(empty_settings, root=root)
    write(
        "clickhouse",
        2,
        "more",
        TABLE.format("c") + "create table if not exists shop.d (x Wrong) engine = Memory",
        "drop table if exists shop.d sync; drop table if exists shop.c sync;",
    )
    with pytest.raises(TerminalError):
        runner.up(empty_settings, root=root)
    runner.down(empty_settings, store="clickhouse", target=1, execute=True, root=root)
    assert tables(client) == ["a", "b"]
    assert states(empty_settings, root) == ["applied", "pending"]


def test_a_runner_that_lost_its_lock_stops_before_the_next_statement(
    empty_settings: Settings,
    postgres_server: postgres.PostgresSettings,
    client: Client,
    root: Path,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(
        "clickhouse",
        1,
        "shop",
        "create database if not exists shop;\n" + TABLE.format("a") + TABLE.format("b"),
        "drop database if exists shop sync;",
    )
    real = type(client).command

    def command_then_lose_the_connection(self: Client, statement: str, **more: Any) -> object:
        answer = real(self, statement, **more)
        if "shop.a" in statement:
            with postgres.connect(postgres_server, autocommit=True) as superuser:
                superuser.execute(
                    """
                    select pg_terminate_backend(pid, 5000) from pg_stat_activity
                    where datname = %s and application_name = 'bilten migrate'
                    """,
                    (empty_settings.postgres.database,),
                )
        return answer

    monkeypatch.setattr(type(client), "command", command_then_lose_the_connection)
    with pytest.raises(StoreUnavailable, match="connection to PostgreSQL broke"):
        runner.up(empty_settings, root=root)
    monkeypatch.undo()
    assert tables(client) == ["a"]
    assert states(empty_settings, root) == ["interrupted"]
    runner.up(empty_settings, root=root)
    assert tables(client) == ["a", "b"]
    assert states(empty_settings, root) == ["applied"]


@pytest.mark.usefixtures("shop")
def test_without_clickhouse_postgres_is_not_touched_either(
    empty_settings: Settings, root: Path, write: Write
) -> None:
    write("postgres", 1, "shop", "create schema shop;", "drop schema shop;")
    nowhere = empty_settings.model_copy(
        update={"clickhouse": empty_settings.clickhouse.model_copy(update={"port": 1})}
    )
    with pytest.raises(StoreUnavailable):
        runner.up(nowhere, root=root)
    assert states(empty_settings, root) == ["pending", "pending"]
    runner.up(nowhere, store="postgres", root=root)
    assert states(nowhere, root) == ["applied", "pending"]


@pytest.mark.usefixtures("shop")
def test_a_lost_clickhouse_is_told_from_a_migrated_one(
    empty_settings: Settings, client: Client, root: Path
) -> None:
    runner.up(empty_settings, root=root)
    client.command("drop database shop sync")
    with pytest.raises(Refused, match="does not hold what was migrated") as caught:
        runner.up(empty_settings, root=root)
    assert "--anew" in caught.value.problems[0].next
    assert tables(client) == []
    with pytest.raises(UsageError):
        runner.up(empty_settings, anew=True, root=root)
    runner.up(empty_settings, store="clickhouse", anew=True, root=root)
    assert tables(client) == ["a", "b"]
    with pytest.raises(Refused, match="not empty"):
        runner.up(empty_settings, store="clickhouse", anew=True, root=root)


def test_the_role_of_the_sync_reads_the_history_and_cannot_write_it(settings: Settings) -> None:
    with postgres.connect(settings.postgres, "etl") as connection:
        counted = connection.execute(
            "select count(*) from system.migrations where status = 'completed'"
        ).fetchone()
        assert counted is not None
        assert counted[0] > 10
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from system.migrations")
