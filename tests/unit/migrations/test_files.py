from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bilten_orchestration.errors import Refused
from bilten_orchestration.migrations.files import STORES, Direction, discover

Write = Callable[..., None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for store in STORES:
        (tmp_path / store).mkdir()
    return tmp_path


@pytest.fixture
def write(root: Path) -> Write:
    def _write(store: str, name: str, up: str, down: str | None = "drop table if exists t") -> None:
        (root / store / f"{name}.up.sql").write_text(up)
        if down is not None:
            (root / store / f"{name}.down.sql").write_text(down)

    return _write


def complaints(root: Path) -> list[str]:
    with pytest.raises(Refused) as caught:
        discover(root)
    return [f"{problem.what}: {problem.found}" for problem in caught.value.problems]


def test_a_pair_is_a_migration(root: Path, write: Write) -> None:
    write("postgres", "V0002__later", "select 2")
    write(
        "postgres", "V0001__first_tables", "-- description: The first tables\n-- prose\nselect 1;\nselect 2;"
    )
    first, later = discover(root)["postgres"]
    assert (first.version, first.name, first.description) == (1, "first_tables", "The first tables")
    assert [statement.text for statement in first.up.statements] == ["select 1", "select 2"]
    assert first.up.transactional
    assert later.version == 2


@pytest.mark.parametrize("direction", ["up", "down"])
def test_each_file_has_its_checksum_whatever_its_line_ends(
    root: Path, write: Write, direction: Direction
) -> None:
    def checksums() -> tuple[str, str]:
        """Of this file and of the other."""
        found = discover(root)["postgres"][0]
        other: Direction = "down" if direction == "up" else "up"
        return found.script(direction).checksum, found.script(other).checksum

    write("postgres", "V0001__a", "select 1;\nselect 2;\n")
    file = root / f"postgres/V0001__a.{direction}.sql"
    file.write_text("select 1;\nselect 2;\n")
    before = checksums()
    file.write_bytes(b"select 1;\r\nselect 2;\r\n")
    assert checksums() == before
    file.write_text("select 1;\nselect 3;\n")
    assert checksums()[0] != before[0]
    assert checksums()[1] == before[1]


def test_headers_count_only_at_the_top(root: Path, write: Write) -> None:
    write("postgres", "V0001__a", "select 1;\n-- transaction: none\n")
    assert discover(root)["postgres"][0].up.transactional


def test_every_problem_is_told_at_once(root: Path, write: Write) -> None:
    write("postgres", "V0001__no_down", "select 1", None)
    write("postgres", "V0002__twice", "select 1")
    write("postgres", "V0002__again", "select 1")
    write("postgres", "V0003__open_string", "select 'a")
    write("postgres", "V0004__unknown_header", "-- transactions: none\nselect 1")
    write("postgres", "V0005__empty", "-- nothing")
    write("postgres", "V0006__commits", "select 1; commit;")
    (root / "clickhouse/notes.txt").write_text("x")
    found = complaints(root)
    assert len(found) == 7
    for part in ("notes.txt", "V0001", "V0002", "V0003", "transactions", "no statement", "commit"):
        assert any(part in complaint for complaint in found), part


def test_no_directory_is_not_the_same_as_no_migrations(root: Path) -> None:
    (root / "clickhouse").rmdir()
    assert "no such directory" in complaints(root)[0]


@pytest.mark.parametrize(
    "statement",
    [
        "create database if not exists a",
        "create table if not exists a.t (x Int8) engine = Memory",
        "create materialized view if not exists a.v to a.t as select 1",
        "create or replace view a.v as select 1",
        "alter table a.t add column if not exists x Int8",
        "alter table a.t drop column if exists x",
        "alter table a.t modify comment 'x'",
        "drop table if exists a.t sync",
        "grant select on a.* to b",
    ],
)
def test_clickhouse_statements_that_may_be_repeated(root: Path, write: Write, statement: str) -> None:
    write("clickhouse", "V0001__a", statement)
    assert len(discover(root)["clickhouse"]) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "create database a",
        "create table a.t (x Int8) engine = Memory",
        "create table a.if_not_exists (x Int8) engine = Memory",
        "insert into a.t values (1)",
        "alter table a.t add column x Int8",
        "alter table a.t update x = x + 1 where 1",
        "drop table a.t",
        "rename table a.t to a.u",
    ],
)
def test_clickhouse_statements_that_may_not_be_repeated(root: Path, write: Write, statement: str) -> None:
    write("clickhouse", "V0001__a", statement)
    assert "cannot be repeated" in complaints(root)[0]


def test_an_index_built_concurrently_wants_its_remains_dropped_first(root: Path, write: Write) -> None:
    header = "-- transaction: none\n"
    write("postgres", "V0001__a", header + "create index concurrently if not exists i on s.t (x)")
    assert "invalid index" in complaints(root)[0]
    write("postgres", "V0001__a", header + "create index concurrently i on s.t (x)")
    assert "invalid index" in complaints(root)[0]
    write(
        "postgres",
        "V0001__a",
        header + "drop index concurrently if exists s.i; create index concurrently i on s.t (x)",
    )
    assert not discover(root)["postgres"][0].up.transactional


def test_outside_a_transaction_postgres_statements_must_be_repeatable_too(root: Path, write: Write) -> None:
    write("postgres", "V0001__a", "-- transaction: none\ncreate table s.t (x int)")
    assert "cannot be repeated" in complaints(root)[0]
