"""kill -9 before any line of the runner: nothing half, nothing lost, and the next run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from bilten_orchestration.migrations import execute, history, plan, runner
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests.integration.migrations.conftest import Write, tables
from tests.kills import killed_before_line

MODULES = (runner, execute, history, plan)
TABLE = "create table if not exists shop.{} (x Int8) engine = MergeTree order by x;\n"


@pytest.fixture
def tree(write: Write) -> None:
    write(
        "postgres",
        1,
        "shop",
        "create schema shop; create table shop.a ();",
        "drop table shop.a; drop schema shop;",
    )
    write(
        "postgres",
        2,
        "index",
        "-- transaction: none\ncreate table if not exists shop.b (x int);"
        "drop index concurrently if exists shop.b_x; create index concurrently b_x on shop.b (x);",
        "-- transaction: none\ndrop table if exists shop.b;",
    )
    write(
        "postgres",
        3,
        "c",
        "create table shop.c (); create table shop.d ();",
        "drop table shop.d; drop table shop.c;",
    )


@pytest.fixture
def clickhouse_tree(write: Write) -> None:
    write(
        "clickhouse",
        1,
        "shop",
        "create database if not exists shop;\n" + TABLE.format("a") + TABLE.format("b"),
        "drop database if exists shop sync;",
    )


def every(step: int) -> Iterator[int]:
    return count(1, step)


def check(settings: Settings, root: Path) -> None:
    """Transactional migrations are whole or not there, and the history says which."""
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        there = set(tables(connection))
    states = {
        m.version: m.state for m in runner.status(settings, root=root).migrations if m.store == "postgres"
    }
    assert there & {"c", "d"} in (set(), {"c", "d"})
    if states[1] == "applied":
        assert "a" in there
    if states[3] == "applied":
        assert there == {"a", "b", "c", "d"}
    assert "failed" not in states.values()


def kill_everywhere(settings: Settings, root: Path, step: int) -> int:
    killed = 0
    for number in every(step):
        if not killed_before_line(lambda: runner.up(settings, store="postgres", root=root), MODULES, number):
            break
        killed += 1
        check(settings, root)
        runner.up(settings, store="postgres", root=root)
        assert_complete(settings, root)
        # the way back is killed at the same line
        back = killed_before_line(
            lambda: runner.down(settings, store="postgres", target=0, execute=True, root=root),
            MODULES,
            number,
        )
        if back:
            check(settings, root)
            runner.down(settings, store="postgres", target=0, execute=True, root=root)
        with postgres.connect(settings.postgres, autocommit=True) as connection:
            assert tables(connection) == []
        assert {m.state for m in runner.status(settings, root=root).migrations} == {"pending"}
    assert_complete(settings, root)
    return killed


def assert_complete(settings: Settings, root: Path) -> None:
    assert {m.state for m in runner.status(settings, root=root).migrations} == {"applied"}
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        assert tables(connection) == ["a", "b", "c", "d"]
        row = connection.execute(
            "select indisvalid from pg_index where indexrelid = 'shop.b_x'::regclass"
        ).fetchone()
    assert row == (True,)


@pytest.mark.usefixtures("tree")
def test_killed_at_a_sample_of_lines(database: Settings, root: Path) -> None:
    assert kill_everywhere(database, root, step=19) >= 5


@pytest.mark.faults
@pytest.mark.usefixtures("tree")
def test_killed_before_every_line(database: Settings, root: Path) -> None:
    assert kill_everywhere(database, root, step=1) >= 100


@pytest.mark.usefixtures("clickhouse_tree")
def test_killed_between_statements_of_clickhouse(empty_settings: Settings, root: Path) -> None:
    client = clickhouse.connect(empty_settings.clickhouse)
    killed = 0
    for number in every(17):
        if not killed_before_line(
            lambda: runner.up(empty_settings, store="clickhouse", root=root), MODULES, number
        ):
            break
        killed += 1
        runner.up(empty_settings, store="clickhouse", root=root)
        found = client.query(
            "select name from system.tables where database = 'shop' order by name"
        ).result_rows
        assert found == [("a",), ("b",)]
        assert [m.state for m in runner.status(empty_settings, root=root).migrations] == ["applied"]
        runner.down(empty_settings, store="clickhouse", target=0, execute=True, root=root)
    assert killed >= 3
