"""kill -9 of a drill of PostgreSQL in each phase of each way: production is untouched, the next one says so,
and nothing is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.logical import take as dump
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.run import run
from bilten_orchestration.stores import postgres
from tests.faults.drills.killed import Killed, kill, next_one_cleans_up, rows
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.conftest import sell, selling, slots
from tests.integration.drills.postgres.test_unchanged import checkpoint
from tests.processes import inet_sockets
from tests.waiting import until

pytestmark = pytest.mark.faults
# heartbeats, samples, drills: what the platform itself writes at any time
_BOOKS = ("system.", "audit.")


@pytest.fixture(scope="module")
def past(shop: Source) -> Source:
    """A full backup and an incremental one, WAL behind them, a dump, all of it in the second bucket too; and
    a drill that passed, whose digests the next one may take."""
    sell(shop.settings, 5)
    shop.await_reach(shop.now())
    take(shop.settings, "incremental")
    dump(shop.settings)
    sell(shop.settings, 5)
    for number in (0, 1):
        shop.await_reach(shop.now(), number=number)
    copy(shop.settings)
    with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
        connection.execute("vacuum (freeze, analyze)")
    (report,) = run(shop.settings, "postgres", way="exact")
    assert report.ok, report.problems
    checkpoint(shop)
    return shop


@pytest.fixture
def watched(past: Source) -> Iterator[Source]:
    """Production is the same before and after."""
    before = _production(past)
    yield past
    assert _production(past) == before


def _production(shop: Source) -> dict[str, Any]:
    """What a drill must not touch: rows (those of the platform's own book-keeping aside), slots,
    subscriptions, prepared transactions."""
    with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
        digests.pin(connection)
        tables = [table for table in digests.tables(connection) if not table.label.startswith(_BOOKS)]
        found = digests.compute([connection], tables, lambda text: None)
    return {
        "rows": {label: (table.rows, table.hash) for label, table in found.tables.items()},
        "slots": slots(shop),
        "subscriptions": shop.execute("select subname, subenabled from pg_subscription"),
        "prepared": shop.execute("select gid from pg_prepared_xacts"),
    }


def _left_alone(shop: Source, killed: Killed) -> None:
    """Nothing of a drill is on production by the time that it has noticed, and nobody outside is reached."""
    _no_session(shop)
    assert inet_sockets(killed.place) == []
    # who would have to wait says so
    shop.execute("begin; set local lock_timeout = '2s'; lock table kept, payments.payments; rollback")


def _no_session(shop: Source) -> None:
    until(
        lambda: (
            shop.execute("select pid from pg_stat_activity where application_name like 'bilten drill%'") == []
        ),
        "its sessions to end",
    )
    assert slots(shop) == ["shipped", "stream"]
    assert shop.execute("select pid from pg_locks where mode = 'ShareLock' and relation is not null") == []


_EXACT = [
    "phase digests",
    "call drills.postgres.drill:digests:together",
    "phase wal",
    "program pg_waldump",
    "phase find",
    "said from ",
    "program pg_combinebackup",
    "program pg_verifybackup",
    "phase start",
    "said starting, replaying",
    "phase first_query",
    "said proving: visibility maps",
    "program pg_amcheck",
    "call drills.attestation:append",
]
_OTHERS = [
    ("latest", "said starting, replaying"),
    ("moment", "phase first_query"),
    ("oldest_full", "phase verify"),
    ("second_bucket", "said from "),
    ("second_bucket", "said proving: digests"),
    ("table", "program initdb"),
    ("table", "running pg_restore"),
    ("table", "phase proof"),
]


@pytest.mark.parametrize(("way", "at"), [*(("exact", at) for at in _EXACT), *_OTHERS])
def test_a_kill_leaves_nothing_behind_the_next_one(watched: Source, way: str, at: str) -> None:
    killed = kill(watched.settings, "postgres", way, at)
    _left_alone(watched, killed)
    next_one_cleans_up(killed)


def test_while_it_waits_for_its_wal(watched: Source) -> None:
    """Nobody ships: it stands there with its point, and with the snapshot of its digests open."""
    watched.stream.stop()
    try:
        killed = kill(watched.settings, "postgres", "exact", "said waiting for WAL up to")
        assert any(line.startswith("the point is ") for line in killed.said)
        _left_alone(watched, killed)
        next_one_cleans_up(killed)
    finally:
        watched.stream.start()


@pytest.mark.parametrize("at", ["readers:see", "readers:whole"])
def test_while_writers_are_locked_out(watched: Source, at: str) -> None:
    """A transaction of another database keeps the slot from its point, so it takes SHARE locks: killed with
    them, and with the readers' behind them. Writers go on at once."""
    drills = watched.settings.drills.model_copy(update={"slot_wait_seconds": 1})
    settings = watched.settings.model_copy(update={"drills": drills})
    with postgres.connect(watched.settings.postgres, "dagster") as of_another_database:
        of_another_database.execute("select pg_current_xact_id()")
        killed = kill(settings, "postgres", "exact", f"call drills.postgres.{at}")
        assert any(line.startswith("a slot, attempt 2 of 2") for line in killed.said), killed.said
    _left_alone(watched, killed)
    next_one_cleans_up(killed)


def test_while_it_waits_for_its_point(past: Source) -> None:
    """The server finds out by itself that nobody waits for the slot any more."""
    with postgres.connect(past.settings.postgres) as writer:
        writer.execute("insert into kept (words) values ('never')")
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bilten_orchestration.cli.main",
                "drill",
                "run",
                "postgres",
                "--way",
                "exact",
            ],
            env=past.stream.environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(
            lambda: past.execute(
                "select pid from pg_stat_activity where application_name = 'bilten drill'"
                " and query like 'CREATE_REPLICATION_SLOT%' and wait_event = 'transactionid'"
            ),
            "the slot to be waited for",
        )
        assert len(slots(past)) == 3
        child.kill()
        child.wait()
        writer.rollback()
    killed = Killed(past.settings, "postgres", "exact", [])
    _left_alone(past, killed)
    next_one_cleans_up(killed)


def test_under_traffic_and_then_the_next_one_passes(past: Source) -> None:
    with selling(past):
        killed = kill(past.settings, "postgres", "exact", "phase wal")
        _no_session(past)
        told: list[str] = []
        (report,) = run(past.settings, "postgres", way="exact", progress=told.append)
    assert report.ok, report.problems
    assert any("that was killed left" in line for line in told)
    assert [ok for _, ok in rows(past.settings)[-2:]] == [False, True]
    assert all(ok is not None for _, ok in rows(past.settings))
    _left_alone(past, killed)
    assert not killed.place.exists()
