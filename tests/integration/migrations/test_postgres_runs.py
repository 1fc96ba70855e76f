"""The runner against a real PostgreSQL, with small trees of migrations."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from bilten_orchestration.errors import LockHeld, Refused, StoreUnavailable, TerminalError, TransientError
from bilten_orchestration.migrations import execute, history, runner
from bilten_orchestration.migrations.reports import MigrationReport
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection
from tests.integration.migrations.conftest import Write, tables
from tests.stack import PostgresServer

SHOP = (
    "-- description: A shop\ncreate schema shop; create table shop.a ();",
    "drop table shop.a; drop schema shop;",
)


@pytest.fixture
def three(write: Write) -> None:
    write("postgres", 1, "shop", *SHOP)
    write("postgres", 2, "b", "create table shop.b ();", "drop table shop.b;")
    write("postgres", 3, "c", "create table shop.c ();", "drop table shop.c;")


def edited(root: Path, name: str, label: str, *, run: tuple[str, str]) -> list[tuple[str, str, str]]:
    """What is told of edited files, by the texts that were `run`: the up file's and the down file's."""

    def checksum(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    now = [(root / f"postgres/{name}.{direction}.sql").read_text() for direction in ("up", "down")]
    return [
        (
            f"{label} was edited after it was run",
            f"{name}, checksum {checksum(run[0])}",
            f"{name}.up.sql, checksum {checksum(now[0])}",
        ),
        (
            f"the way back of {label} was edited after the way there was run",
            f"{name}.down.sql, checksum {checksum(run[1])}",
            f"{name}.down.sql, checksum {checksum(now[1])}",
        ),
    ]


def states(settings: Settings, root: Path) -> list[str]:
    return [migration.state for migration in runner.status(settings, root=root).migrations]


@pytest.mark.usefixtures("three")
def test_up_applies_all_and_records_each(database: Settings, owner: Connection, root: Path) -> None:
    assert states(database, root) == ["pending"] * 3
    report = runner.up(database, store="postgres", root=root)
    assert [(step.version, step.direction) for step in report.steps] == [(1, "up"), (2, "up"), (3, "up")]
    assert tables(owner) == ["a", "b", "c"]
    rows = owner.execute(
        """
        select store, version, name, description, length(checksum), status, error, failed_at,
               completed_at >= started_at
        from system.migrations order by version
        """
    ).fetchall()
    assert rows[0] == ("postgres", 1, "shop", "A shop", 64, "completed", None, None, True)
    assert [row[1:3] for row in rows] == [(1, "shop"), (2, "b"), (3, "c")]
    assert runner.up(database, store="postgres", root=root).steps == ()
    report_after = runner.status(database, root=root)
    assert report_after.problems == ()
    assert report_after.pending == 0


@pytest.mark.usefixtures("three")
def test_status_alone_writes_nothing(database: Settings, owner: Connection, root: Path) -> None:
    runner.status(database, root=root)
    assert owner.execute("select to_regnamespace('system')").fetchone() == (None,)


@pytest.mark.usefixtures("three")
def test_up_and_down_stop_at_the_target(database: Settings, owner: Connection, root: Path) -> None:
    runner.up(database, store="postgres", target=2, root=root)
    assert tables(owner) == ["a", "b"]
    runner.up(database, store="postgres", root=root)
    report = runner.down(database, store="postgres", target=1, execute=True, root=root)
    assert [(step.version, step.direction) for step in report.steps] == [(3, "down"), (2, "down")]
    assert tables(owner) == ["a"]
    assert states(database, root) == ["applied", "pending", "pending"]
    runner.down(database, store="postgres", target=0, execute=True, root=root)
    assert owner.execute("select to_regnamespace('shop')").fetchone() == (None,)
    runner.up(database, store="postgres", root=root)
    assert tables(owner) == ["a", "b", "c"]


@pytest.mark.usefixtures("three")
def test_a_down_is_only_shown_unless_told(database: Settings, owner: Connection, root: Path) -> None:
    runner.up(database, store="postgres", root=root)
    owner.execute("insert into shop.c select from generate_series(1, 3)")
    report = runner.down(database, store="postgres", target=0, root=root)
    assert not report.executed
    assert [step.rows_lost for step in report.steps] == [{"shop.c": 3}, {"shop.b": 0}, {"shop.a": 0}]
    assert [statement for step in report.steps for statement in step.preview] == [
        "drop table shop.c",
        "drop table shop.b",
        "drop table shop.a",
        "drop schema shop",
    ]
    assert tables(owner) == ["a", "b", "c"]
    assert states(database, root) == ["applied"] * 3


@pytest.mark.usefixtures("three")
def test_a_failure_rolls_back_whole_is_recorded_and_can_be_repeated(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    write("postgres", 2, "b", "create table shop.b ();\n\nselect 1 / 0;", "drop table shop.b;")
    with pytest.raises(TerminalError) as caught:
        runner.up(database, store="postgres", root=root)
    problem = caught.value.problems[0]
    assert "postgres V0002 b" in problem.what
    assert "statement 2 of 2, line 3" in problem.what
    assert "division by zero" in problem.found
    assert tables(owner) == ["a"]
    assert states(database, root) == ["applied", "failed", "pending"]
    shown = runner.status(database, root=root)
    assert "division by zero" in shown.problems[0].found
    assert "up" in shown.problems[0].next
    assert owner.execute(
        "select failed_at >= started_at from system.migrations where version = 2"
    ).fetchone() == (True,)

    write("postgres", 2, "b", "create table shop.b ();", "drop table shop.b;")
    runner.up(database, store="postgres", root=root)
    assert tables(owner) == ["a", "b", "c"]
    assert owner.execute(
        "select status, error, failed_at from system.migrations where version = 2"
    ).fetchone() == (
        "completed",
        None,
        None,
    )


def test_a_constraint_that_fails_at_commit_is_a_failure(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    write(
        "postgres",
        1,
        "shop",
        "create schema shop; create table shop.a (x int unique deferrable initially deferred);"
        "insert into shop.a values (1), (1);",
        "drop schema shop cascade;",
    )
    with pytest.raises(TerminalError, match="commit"):
        runner.up(database, store="postgres", root=root)
    assert owner.execute("select to_regnamespace('shop')").fetchone() == (None,)
    assert states(database, root) == ["failed"]


@pytest.mark.usefixtures("three")
def test_a_down_that_fails_leaves_it_applied(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    write("postgres", 3, "c", "create table shop.c ();", "drop table shop.c; select 1 / 0;")
    runner.up(database, store="postgres", root=root)
    with pytest.raises(TerminalError, match="division by zero"):
        runner.down(database, store="postgres", target=2, execute=True, root=root)
    assert tables(owner) == ["a", "b", "c"]
    assert states(database, root) == ["applied", "applied", "failed"]
    write("postgres", 3, "c", "create table shop.c ();", "drop table shop.c;")
    runner.down(database, store="postgres", target=2, execute=True, root=root)
    assert tables(owner) == ["a", "b"]


@pytest.mark.usefixtures("three")
def test_edited_missing_and_out_of_order_are_refused_together_before_anything_is_touched(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    runner.up(database, store="postgres", root=root)
    before = owner.execute("select * from system.migrations order by version").fetchall()
    write(
        "postgres", 1, "shop", "create schema shop; create table shop.other ();", "drop schema shop cascade;"
    )
    for direction in ("up", "down"):
        (root / f"postgres/V0002__b.{direction}.sql").unlink()
    owner.execute("delete from system.migrations where version = 3")
    owner.execute("drop table shop.c")
    owner.execute(
        """
        insert into system.migrations
        select store, 5, 'e', '', checksum, down_checksum, now(), now(), null, status
        from system.migrations where version = 1
        """
    )
    write("postgres", 5, "e", "select 5", "select 5")
    write("postgres", 6, "f", "create table shop.f ();", "drop table shop.f;")
    for attempt in (
        lambda: runner.up(database, store="postgres", root=root),
        lambda: runner.down(database, store="postgres", target=0, execute=True, root=root),
    ):
        with pytest.raises(Refused) as caught:
            attempt()
        told = [(problem.what, problem.expected, problem.found) for problem in caught.value.problems]
        assert told == [
            *edited(root, "V0001__shop", "postgres V0001 shop", run=SHOP),
            (
                "postgres V0002 b was run and has no file any more",
                "sql/postgres/V0002__b.up.sql",
                "no file of this version",
            ),
            *edited(root, "V0005__e", "postgres V0005 e", run=SHOP),
            (
                "postgres V0003 c is out of order",
                "a version above V0005, the newest that was run",
                "V0003, never run here",
            ),
        ]
    assert tables(owner) == ["a", "b"]
    assert owner.execute("select * from system.migrations where version = 1").fetchall() == before[:1]
    assert [problem.what for problem in runner.status(database, root=root).problems] == [
        what for what, _, _ in told
    ]


@pytest.mark.usefixtures("three")
def test_an_edited_way_back_is_refused_before_it_is_gone_and_told_by_status(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    runner.up(database, store="postgres", root=root)
    write("postgres", 2, "b", "create table shop.b ();", "drop schema shop cascade;")
    expected = edited(root, "V0002__b", "postgres V0002 b", run=("", "drop table shop.b;"))[1:]
    for attempt in (
        lambda: runner.up(database, store="postgres", root=root),
        lambda: runner.down(database, store="postgres", target=0, root=root),
        lambda: runner.down(database, store="postgres", target=0, execute=True, root=root),
    ):
        with pytest.raises(Refused) as caught:
            attempt()
        assert [(each.what, each.expected, each.found) for each in caught.value.problems] == expected
    assert runner.status(database, root=root).problems == tuple(caught.value.problems)
    assert tables(owner) == ["a", "b", "c"]
    write("postgres", 2, "b", "create table shop.b ();", "drop table shop.b;")
    runner.down(database, store="postgres", target=1, execute=True, root=root)
    # taken back, both files may be other ones
    write("postgres", 2, "b", "create table shop.b (x int);", "drop table if exists shop.b;")
    runner.up(database, store="postgres", root=root)
    runner.down(database, store="postgres", target=1, execute=True, root=root)
    assert tables(owner) == ["a"]


@pytest.mark.usefixtures("three")
def test_a_history_of_an_older_release_is_read_and_gets_what_it_lacks(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    """As a drill may find it in a backup of before: it reads, and never writes."""
    runner.up(database, store="postgres", root=root)
    owner.execute("alter table system.migrations drop column down_checksum")
    assert {record.down_checksum for record in history.read(owner).values()} == {None}
    assert runner.status(database, root=root).problems == ()
    write("postgres", 4, "d", "create table shop.d ();", "drop table shop.d;")
    assert [step.version for step in runner.up(database, store="postgres", root=root).steps] == [4]
    known = [record.down_checksum is not None for _, record in sorted(history.read(owner).items())]
    assert known == [False, False, False, True]


def test_settings_of_one_migration_do_not_reach_the_next(
    database: Settings, root: Path, write: Write
) -> None:
    write(
        "postgres",
        1,
        "a",
        "set search_path = pg_temp; set statement_timeout = '500ms'; set timezone = 'Asia/Tokyo'",
        "select 1",
    )
    write(
        "postgres",
        2,
        "b",
        "select pg_sleep(0.7); do $$ begin assert current_setting('TimeZone') = 'UTC'; end $$",
        "select 1",
    )
    assert len(runner.up(database, store="postgres", root=root).steps) == 2


def test_without_a_transaction_each_statement_stands_and_all_may_be_repeated(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    write(
        "postgres", 1, "shop", "create schema shop; create table shop.a (x int);", "drop schema shop cascade;"
    )
    up = (
        "-- transaction: none\ndrop index concurrently if exists shop.a_x;\n"
        "create index concurrently a_x on shop.a (x);\ndo $$ begin {} end $$;"
    )
    down = "-- transaction: none\ndrop index concurrently if exists shop.a_x"
    write("postgres", 2, "index", up.format("perform 1 / 0;"), down)
    with pytest.raises(TerminalError, match="may be repeated"):
        runner.up(database, store="postgres", root=root)
    assert owner.execute("select to_regclass('shop.a_x') is not null").fetchone() == (True,)
    assert states(database, root) == ["applied", "failed"]
    write("postgres", 2, "index", up.format(""), down)
    runner.up(database, store="postgres", root=root)
    assert owner.execute(
        "select indisvalid from pg_index where indexrelid = 'shop.a_x'::regclass"
    ).fetchone() == (True,)
    runner.down(database, store="postgres", target=1, execute=True, root=root)
    assert owner.execute("select to_regclass('shop.a_x')").fetchone() == (None,)


@pytest.mark.usefixtures("three")
def test_two_runners_at_once_apply_each_migration_once(
    database: Settings, owner: Connection, root: Path, write: Write
) -> None:
    write(
        "postgres",
        1,
        "shop",
        "create schema shop; create table shop.a (); select pg_sleep(0.5);",
        "drop schema shop cascade;",
    )
    reports: list[MigrationReport] = []
    told: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: reports.append(
                runner.up(database, store="postgres", root=root, progress=told.append)
            )
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(len(report.steps) for report in reports) == [0, 3]
    assert tables(owner) == ["a", "b", "c"]
    assert any("another migration runner is at work" in text for text in told)


@pytest.mark.usefixtures("three")
def test_a_runner_that_waits_too_long_names_the_holder(
    database: Settings, owner: Connection, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOCK_WAIT_SECONDS", 0.3)
    with advisory_lock(owner, runner.LOCK), pytest.raises(LockHeld, match="bilten_owner"):
        runner.up(database, store="postgres", root=root)
    assert tables(owner) == []


def test_a_lock_that_is_not_to_be_had_is_worth_another_try(
    database: Settings, owner: Connection, root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "LOCK_TIMEOUT_SECONDS", 1)
    write("postgres", 1, "shop", "create schema shop; create table shop.a ();", "drop schema shop cascade;")
    write("postgres", 2, "column", "alter table shop.a add column x int", "alter table shop.a drop column x")
    runner.up(database, store="postgres", target=1, root=root)
    with owner.transaction():
        owner.execute("lock table shop.a in access share mode")
        with pytest.raises(TransientError, match="lock timeout"):
            runner.up(database, store="postgres", root=root)
    runner.up(database, store="postgres", root=root)
    assert states(database, root) == ["applied", "applied"]


def test_a_slow_statement_is_named_while_it_runs(
    database: Settings, root: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "ANNOUNCE_AFTER_SECONDS", 0.1)
    write("postgres", 1, "slow", "select 1;\nselect pg_sleep(0.6);", "select 1")
    told: list[str] = []
    runner.up(database, store="postgres", root=root, progress=told.append)
    assert [text for text in told if "still at statement 2 of 2, line 2: select pg_sleep(0.6)" in text]
    assert not [text for text in told if "still at statement 1" in text]


def test_a_server_killed_under_a_migration(
    own_postgres: PostgresServer, tmp_path: Path, root: Path, write: Write
) -> None:
    settings = Settings(home=tmp_path, environment="test", postgres=own_postgres.settings())
    write("postgres", 1, "shop", "create schema shop; create table shop.a ();", "drop schema shop cascade;")
    write("postgres", 2, "slow", "create table shop.b (); select pg_sleep(60);", "drop table shop.b;")
    caught: list[BaseException] = []

    def migrate() -> None:
        try:
            runner.up(settings, store="postgres", root=root)
        except BaseException as error:  # noqa: BLE001
            caught.append(error)

    thread = threading.Thread(target=migrate)
    thread.start()
    with postgres.connect(own_postgres.superuser, autocommit=True) as watcher:
        while (
            watcher.execute(
                """
                select 1 from pg_stat_activity
                where query = 'select pg_sleep(60)' and state = 'active' and pid <> pg_backend_pid()
                """
            ).fetchone()
            is None
        ):
            assert thread.is_alive()
    own_postgres.kill()
    thread.join(timeout=30)
    assert isinstance(caught[0], StoreUnavailable)

    own_postgres.start()
    write("postgres", 2, "slow", "create table shop.b ();", "drop table shop.b;")
    shown = runner.status(settings, root=root)
    assert [migration.state for migration in shown.migrations] == ["applied", "interrupted"]
    assert "its runner is gone" in shown.problems[0].found
    runner.up(settings, store="postgres", root=root)
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        assert tables(connection) == ["a", "b"]
    assert runner.status(settings, root=root).problems == ()
