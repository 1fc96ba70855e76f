"""ClickHouse restored in place: PostgreSQL's mark is ahead of it, and nothing is missing for ever."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bilten_orchestration.backups.clickhouse import disks
from bilten_orchestration.backups.clickhouse.base import take
from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.errors import LockHeld, Refused
from bilten_orchestration.ingestion.sync import reconcile, sync
from bilten_orchestration.metrics.dirty import dirty_days
from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import BackupSettings, Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.locks import advisory_lock
from tests import stack
from tests.conftest import Servers
from tests.integration.ingestion.shop import NOON, Shop, owner

KILLED = """
import os, signal, sys
from bilten_orchestration.backups.clickhouse import operations
from bilten_orchestration.backups.clickhouse.restore import restore
from bilten_orchestration.settings.loading import load_settings
follow = operations._follow
def die(client, operation, *rest):
    if "-rows-" in operation:
        os.kill(os.getpid(), signal.SIGKILL)
    return follow(client, operation, *rest)
operations._follow = die
restore(load_settings(), sys.argv[1])
"""
BUILT = "update system.metric_dirty_days set built_generation = generation"


@pytest.fixture
def here(servers: Servers, settings: Settings) -> Iterator[Settings]:
    """The platform with a ClickHouse of its own that takes backups."""
    base = servers.base / f"restored-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    store, ring = servers.buckets(), keys.ensure(base / "home" / "backup-keys.json")
    found = stack.start_clickhouse(
        servers.base,
        f"clickhouse-{next(servers.numbers)}",
        disks=disks.configuration(store, ring),
    )
    value = settings.model_copy(
        update={
            "home": base / "home",
            "clickhouse": found.settings,
            "object_store": store,
            "backups": BackupSettings(lock_wait_seconds=0),
            "ingestion": settings.ingestion.model_copy(update={"lock_wait_seconds": 1}),
        }
    )
    try:
        runner.up(value, store="clickhouse", anew=True)
        yield value
    finally:
        found.kill()
        shutil.rmtree(found.program.directory, ignore_errors=True)
        shutil.rmtree(base, ignore_errors=True)


def _drop(settings: Settings, *databases: str) -> None:
    client = clickhouse.connect(settings.clickhouse)
    for name in databases:
        client.command(f"drop database {name} sync")
    client.close()


def _ask(settings: Settings, query: str) -> list[tuple[object, ...]]:
    client = clickhouse.connect(settings.clickhouse)
    rows = [tuple(row) for row in client.query(query).result_rows]
    client.close()
    return rows


ALL = ("bilten_raw", "analytics", "staging", "intermediate", "marts")


@pytest.mark.parametrize(
    "what",
    [
        "all",
        pytest.param("bilten_raw", marks=pytest.mark.faults),
        pytest.param("nothing new", marks=pytest.mark.faults),
    ],
)
def test_the_next_sync_refuses_and_then_nothing_is_missing(here: Settings, what: str) -> None:
    with owner(here) as connection:
        shop = Shop(connection).open()
        kept, changed = shop.order(), shop.order(NOON + timedelta(days=1))
        first = sync(here)
        taken = take(here).manifest
        assert taken.details["batch"] == str(first.batch)
        last = first
        if what != "nothing new":
            shop.order(NOON + timedelta(days=2))
            shop.set("payments.payments", changed.payment, deleted_at=NOON)
            with connection.transaction():
                for table, column in (
                    ("payments.payment_items", "payment_id"),
                    ("tickets.tickets", "payment_id"),
                    ("payments.payments", "id"),
                ):
                    connection.execute(f"delete from {table} where {column} = %s", (kept.payment,))  # type: ignore[arg-type]
            last = sync(here)
        connection.execute(BUILT)  # as builds do
    if what == "bilten_raw":
        _drop(here, "bilten_raw")
        report = restore(here, taken.id, Wanted(database="bilten_raw"))
    else:
        _drop(here, *ALL)
        report = restore(here, taken.id)
    assert report.sync_refuses
    assert _ask(here, "select count() from analytics.sync_batches") == [(0,)]
    for full in (False, True):
        with pytest.raises(Refused) as refused:
            sync(here, full=full)
        told = "\n".join(str(problem) for problem in refused.value.problems)
        assert f"expected: batch {last.batch}" in told
        assert "as after a restore" in told
        assert "bilten sync --accept-epoch" in told

    accepted = sync(here, accept_epoch=True)
    assert accepted.kind == "reconcile"
    assert accepted.batch > last.batch
    assert reconcile(here).equal
    days = {NOON.date() + timedelta(days=number) for number in range(3 if what != "nothing new" else 2)}
    if what == "bilten_raw":
        assert set(accepted.touched_days) == days
    with postgres.connect(here.postgres) as connection:
        dirty = {each.day for each in dirty_days(connection)}
    assert dirty == days, "marts that were built since are to be built again"
    assert sync(here).kind == "incremental"


def test_a_restore_that_was_killed(here: Settings, environment: Callable[[Settings], dict[str, str]]) -> None:
    with owner(here) as connection:
        Shop(connection).open().order()
    sync(here)
    taken = take(here).manifest
    _drop(here, *ALL)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, taken.id],
        env=environment(here) | {"PYTHONPATH": str(Path(__file__).parents[4])},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(Refused, match="no batch"):
        sync(here)
    assert _ask(here, "select count() from analytics.sync_batches") == [(0,)]


def test_not_beside_a_sync(here: Settings) -> None:
    with owner(here) as connection:
        Shop(connection).open().order()
    sync(here)
    taken = take(here).manifest
    _drop(here, "bilten_raw")
    with (
        postgres.connect(here.postgres, "etl", autocommit=True) as holder,
        advisory_lock(holder, "sync-run"),
        pytest.raises(LockHeld),
    ):
        restore(here, taken.id, Wanted(database="bilten_raw"))
    assert _ask(here, "select count() from system.databases where name = 'bilten_raw'") == [(0,)]
