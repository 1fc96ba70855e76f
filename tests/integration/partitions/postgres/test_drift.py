"""system.partition_metadata and the catalogues: what agrees is measured, what does not is told, each time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from bilten_orchestration.partitions.declared import BY_NAME, PartitionedTable
from bilten_orchestration.partitions.locking import Patience
from bilten_orchestration.partitions.postgres.adoption import check
from bilten_orchestration.partitions.postgres.adoption.plan import plan
from bilten_orchestration.partitions.postgres.premake import ensure_months
from bilten_orchestration.partitions.postgres.reconcile import reconcile
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

TABLE = BY_NAME["users.user_behavior"]


@pytest.fixture
def months(owner: Connection) -> Connection:
    ensure_months(owner, TABLE.name, date(2026, 1, 1), date(2026, 3, 1))
    return owner


def rows(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "select partition_name, from_at, to_at, state, rows, bytes, relation_oid, run_id"
        " from system.partition_metadata order by 1"
    ).fetchall()


def test_what_agrees_is_measured_and_no_problem(database: Settings, months: Connection) -> None:
    months.execute(
        "insert into users.user_behavior (action, created_at)"
        " select 'view', '2026-02-03+00' from generate_series(1, 500)"
    )
    months.execute("analyze users.user_behavior")
    report = reconcile(database, [TABLE])
    assert (report.drift, report.measured > 0) == ((), True)
    assert months.execute(
        "select rows, bytes = pg_total_relation_size('users.user_behavior_p202602')"
        " from system.partition_metadata where partition_name = 'users.user_behavior_p202602'"
    ).fetchone() == (500, True)
    assert reconcile(database, [TABLE]).measured == 0


WAYS: dict[str, tuple[str, list[int]]] = {
    "unknown": (
        "create table users.mine partition of users.user_behavior"
        " for values from ('2026-04-01+00') to ('2026-05-01+00')",
        [1],
    ),
    "renamed": ("alter table users.user_behavior_p202601 rename to january", [2]),
    "other bounds": (
        "alter table users.user_behavior detach partition users.user_behavior_p202603;"
        " alter table users.user_behavior attach partition users.user_behavior_p202603"
        " for values from ('2026-03-02+00') to ('2026-04-01+00')",
        [3],
    ),
    "attached again": (
        "update system.partition_metadata set state = 'dropped' where from_at < '2026-02-01'",
        [4],
    ),
    "detached": ("alter table users.user_behavior detach partition users.user_behavior_p202601", [5]),
    "detached and renamed": (
        "alter table users.user_behavior detach partition users.user_behavior_p202601;"
        " alter table users.user_behavior_p202601 rename to january",
        [5],
    ),
    "dropped": ("drop table users.user_behavior_p202601", [6]),
    "all at once": (
        "drop table users.user_behavior_p202601;"
        " alter table users.user_behavior_p202602 rename to february;"
        " alter table users.user_behavior detach partition users.user_behavior_p202603",
        [2, 5, 6],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_drift_is_told_until_it_is_accepted(database: Settings, months: Connection, way: str) -> None:
    statement, cases = WAYS[way]
    months.execute(statement.encode())
    before = rows(months)
    for _ in range(2):
        report = reconcile(database, [TABLE], measure=False)
        assert sorted(each.case for each in report.drift) == cases
        assert all(problem.next and problem.expected for problem in report.problems)
        assert rows(months) == before
    accepted = reconcile(database, [TABLE], accept=True, run="accepting")
    assert (accepted.drift, accepted.accepted) == ((), len(cases))
    assert reconcile(database, [TABLE]).drift == ()


@pytest.mark.parametrize("state", ["detaching", "detached", "archived"])
def test_our_own_steps_are_no_drift(database: Settings, months: Connection, state: str) -> None:
    months.execute("update system.partition_metadata set state = %s where from_at < '2026-02-01'", (state,))
    if state != "detaching":
        months.execute("alter table users.user_behavior detach partition users.user_behavior_p202601")
    assert reconcile(database, [TABLE]).drift == ()


def test_what_was_begun_and_not_ended_is_told(database: Settings, owner: Connection) -> None:
    table = PartitionedTable("events.visits", retention=3)
    owner.execute("create table events.visits (created_at timestamptz not null)")
    assert reconcile(database, [table]).drift == ()
    check.add(owner, Patience(), table, plan(owner, table, now=datetime(2026, 5, 1, tzinfo=UTC)))
    (drift,) = reconcile(database, [table]).drift
    assert (drift.case, "was begun and not ended" in drift.problem.what) == (7, True)


def test_oids_that_are_others_are_no_drift(database: Settings, months: Connection) -> None:
    """After a logical restore."""
    months.execute("update system.partition_metadata set relation_oid = 1")
    report = reconcile(database, [TABLE])
    assert (report.drift, report.measured) == ((), 3)
    assert reconcile(database, [TABLE]).measured == 0


def test_it_waits_for_maintenance(
    database: Settings, months: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bilten_orchestration.errors import LockHeld
    from bilten_orchestration.stores.locks import advisory_lock

    short = database.partitions.model_copy(update={"lock_wait_seconds": 0})
    impatient = database.model_copy(update={"partitions": short})
    looks: list[Callable[[], object]] = [
        lambda: reconcile(impatient, [TABLE]),
        lambda: reconcile(impatient, [TABLE], measure=False),
    ]
    with advisory_lock(months, "partitions"):
        for look in looks:
            with pytest.raises(LockHeld):
                look()
