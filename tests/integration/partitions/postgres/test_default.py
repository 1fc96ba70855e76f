"""A default partition left by someone else: its rows go where they belong, none is lost, none comes twice."""

from __future__ import annotations

import threading

import pytest

from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.partitions import locking, metadata
from bilten_orchestration.partitions.declared import BY_NAME
from bilten_orchestration.partitions.postgres.adoption import default
from bilten_orchestration.partitions.postgres.adoption import locks as asking
from bilten_orchestration.partitions.postgres.adoption.default import empty_default
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import locks
from bilten_orchestration.stores.postgres import Connection
from tests.kills import killed_before_line

TABLE = BY_NAME["users.user_behavior"]
DEFAULT = "users.rest"


def left_behind(connection: Connection, rows: int = 60) -> None:
    """Rows of January to March 2026, a third each."""
    connection.execute("create table users.rest partition of users.user_behavior default")
    connection.execute(
        "insert into users.user_behavior (action, created_at)"
        " select 'view', '2026-01-15 00:00+00'::timestamptz + (n %% 3) * interval '1 month'"
        " from generate_series(1, %s) n",
        (rows,),
    )


def ids(connection: Connection) -> list[tuple[object, ...]]:
    """Wherever they are now: each one as often as it is there."""
    rows = connection.execute("select id, created_at from users.user_behavior").fetchall()
    (there,) = connection.execute("select to_regclass('users.rest') is not null").fetchone() or (False,)
    (inside,) = connection.execute(
        "select exists (select from pg_inherits where inhrelid = to_regclass('users.rest'))"
    ).fetchone() or (False,)
    if there and not inside:
        rows += connection.execute("select id, created_at from users.rest").fetchall()
    return sorted(rows, key=str)


def test_the_preview_counts_and_changes_nothing(database: Settings, owner: Connection) -> None:
    left_behind(owner)
    report = empty_default(database, TABLE)
    assert (report.partition, report.executed, report.moved) == (DEFAULT, False, 0)
    assert report.rows == {"2026-01": 20, "2026-02": 20, "2026-03": 20}
    assert [p.name for p in attached(owner, TABLE.name)] == [DEFAULT]


def test_rows_go_to_their_months_and_it_is_dropped(database: Settings, owner: Connection) -> None:
    left_behind(owner)
    before = ids(owner)
    report = empty_default(database, TABLE, execute=True, batch_rows=7)
    assert report.moved == 60
    assert ids(owner) == before
    names = [p.name for p in attached(owner, TABLE.name)]
    assert names[:3] == [f"users.user_behavior_p2026{month}" for month in ("01", "02", "03")]
    assert len(names) >= 3 + 5
    counts = owner.execute("select tableoid::regclass::text, count(*) from users.user_behavior group by 1")
    assert set(counts.fetchall()) == {(name, 20) for name in names[:3]}
    assert owner.execute("select to_regclass('users.rest')").fetchone() == (None,)
    with pytest.raises(Refused, match="no default partition"):
        empty_default(database, TABLE)


def test_a_key_that_is_there_already_stops_it(database: Settings, owner: Connection) -> None:
    left_behind(owner, 6)
    real = default._detach

    def and_again(*arguments: object) -> list[str]:
        made = real(*arguments)  # type: ignore[arg-type]
        owner.execute(
            "insert into users.user_behavior (id, action, created_at)"
            " select id, 'again', created_at from users.rest order by created_at limit 1"
        )
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "_detach", and_again)
        with pytest.raises(Mismatch, match=r"is in users\.user_behavior already"):
            empty_default(database, TABLE, execute=True, batch_rows=1)
    assert len(ids(owner)) == 7
    owner.execute("delete from users.user_behavior where action = 'again'")
    empty_default(database, TABLE, execute=True)
    assert len(ids(owner)) == 6


def test_rows_that_fit_nowhere_are_told_and_nothing_is_moved(database: Settings, owner: Connection) -> None:
    left_behind(owner, 3)
    owner.execute("insert into users.user_behavior (action, created_at) values ('view', 'infinity')")
    owner.execute(
        "create table users.half partition of users.user_behavior"
        " for values from ('2026-04-10+00') to ('2026-05-01+00')"
    )
    owner.execute("insert into users.user_behavior (action, created_at) values ('view', '2026-04-02+00')")
    with pytest.raises(Refused) as caught:
        empty_default(database, TABLE, execute=True)
    assert len(caught.value.problems) == 2
    assert {p.name for p in attached(owner, TABLE.name)} == {DEFAULT, "users.half"}


def _one_by_one(database: Settings, owner: Connection, step: int) -> None:
    left_behind(owner, 12)
    before = ids(owner)
    killed = 0
    for number in range(1, 100_000, step):
        if not killed_before_line(
            lambda: empty_default(database, TABLE, execute=True, batch_rows=1),
            (default, asking, locking, metadata, locks),
            number,
        ):
            break
        killed += 1
        _free(owner)
        assert ids(owner) == before
        (left,) = owner.execute("select to_regclass('users.rest') is not null").fetchone() or (False,)
        if not left:
            break
    assert killed > 3
    assert ids(owner) == before
    assert owner.execute("select to_regclass('users.rest')").fetchone() == (None,)


def _free(connection: Connection) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and application_name = 'bilten partitions adopt'"
        ).fetchone() == (0,):
            return
        pause.wait(0.01)
    raise AssertionError("its session never ended")


def test_killed_now_and_then_it_loses_and_doubles_nothing(database: Settings, owner: Connection) -> None:
    _one_by_one(database, owner, 61)


@pytest.mark.faults
def test_killed_at_every_step_it_loses_and_doubles_nothing(database: Settings, owner: Connection) -> None:
    """Cases 1 to 4 of default.py."""
    _one_by_one(database, owner, 3)
