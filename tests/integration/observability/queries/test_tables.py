"""Dead rows, statistics, bloat and age, on tables of which the truth is known."""

from __future__ import annotations

from typing import Any

import pytest

from bilten_orchestration.observability.queries import shape, tables
from bilten_orchestration.observability.queries.tables import Table
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.waiting import until


@pytest.fixture
def big(owner: Connection) -> Connection:
    owner.execute(
        "create table public_big (id int, note text) with (autovacuum_enabled = off);"
        "alter table public_big set schema system;"
        "insert into system.public_big select n, repeat('x', n % 60) from generate_series(1, 20000) n"
    )
    _one(owner)  # the insert is counted before anything analyses
    return owner


def _one(connection: Connection) -> Table:
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select 1")
    [table] = [each for each in tables.read(connection) if each.name == "system.public_big"]
    return table


def test_an_unanalysed_table_has_no_bloat_and_is_to_be_analysed(big: Connection) -> None:
    table = _one(big)
    assert table.bloat_bytes is None
    assert table.analyzed_at is None
    assert not table.is_autovacuumed
    assert [each.name for each in tables.to_analyze([table], rows=1000)] == ["system.public_big"]
    big.execute("analyze system.public_big")
    assert tables.to_analyze([_one(big)], rows=1000) == []


def test_dead_rows_are_to_be_vacuumed_and_then_are_room(
    big: Connection, database: Settings, postgres_server: Any
) -> None:
    big.execute("analyze system.public_big")
    assert _one(big).bloat_share < 0.15
    assert tables.to_vacuum([_one(big)], share=0.2, rows=1000) == []
    big.execute("delete from system.public_big where id % 4 <> 0")
    until(lambda: _one(big).dead_rows == 15000, "the statistics arrive")
    table = _one(big)
    assert table.dead_share == pytest.approx(0.75)
    assert tables.to_vacuum([table], share=0.2, rows=1000) == [table]
    big.execute("vacuum (analyze) system.public_big")
    until(lambda: _one(big).dead_rows == 0, "the statistics arrive")
    table = _one(big)
    assert tables.to_vacuum([table], share=0.2, rows=1000) == []
    assert tables.bloated([table], share=0.4, from_bytes=100_000) == [table]
    superuser = postgres_server.model_copy(update={"database": database.postgres.database})
    with postgres.connect(superuser, autocommit=True) as connection:
        connection.execute("create extension pgstattuple")
        exact = connection.execute("select free_space from pgstattuple('system.public_big')").fetchone()
    assert exact is not None
    assert table.bloat_bytes == pytest.approx(exact[0], rel=0.15)
    big.execute("vacuum full system.public_big")
    big.execute("analyze system.public_big")
    assert tables.bloated([_one(big)], share=0.4, from_bytes=100_000) == []


def test_ages(big: Connection) -> None:
    table = _one(big)
    assert 0 < table.frozen_age < 100_000
    assert table.freeze_limit == 200_000_000
    assert tables.old([table]) == []


def test_a_table_is_in_shape_by_its_partitions(database: Settings, owner: Connection) -> None:
    owner.execute(
        "create table system.by_month (at date not null, note text) partition by range (at);"
        "create table system.by_month_1 partition of system.by_month for values from ('2026-01-01') to"
        " ('2026-02-01') with (autovacuum_enabled = off);"
        "insert into system.by_month select '2026-01-05', repeat('x', 40) from generate_series(1, 30000)"
    )
    names = ["system.by_month", "events.events", "system.nowhere"]
    owner.execute("select pg_stat_force_next_flush()")
    until(lambda: shape.read(database, names)["system.by_month"].live_rows == 30_000, "the statistics arrive")
    # never analysed, which autovacuum would have done
    assert [each.kind for each in shape.read(database, names)["system.by_month"].advice] == ["analyze"]
    owner.execute("analyze system.by_month_1")
    until(lambda: not shape.read(database, names)["system.by_month"].advice, "the statistics arrive")
    found = shape.read(database, names)
    assert [found[name].is_there for name in names] == [True, True, False]
    owner.execute("delete from system.by_month where true")
    owner.execute("select pg_stat_force_next_flush()")
    until(lambda: shape.read(database, names)["system.by_month"].dead_rows == 30_000, "the statistics arrive")
    said = shape.read(database, names)["system.by_month"].advice
    (line,) = [each for each in said if each.kind == "vacuum"]
    assert line.statements == ("vacuum (verbose, analyze) system.by_month_1",)
    assert shape.read(database, names)["events.events"].advice == ()
