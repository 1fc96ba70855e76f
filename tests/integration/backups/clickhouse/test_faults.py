"""Backups of ClickHouse on bad days: servers, processes and stores that die, keys that are wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from bilten_orchestration.backups.clickhouse import merges, operations
from bilten_orchestration.backups.clickhouse.base import take
from bilten_orchestration.backups.clickhouse.disks import DISK, PREFIX
from bilten_orchestration.backups.clickhouse.preflight import requirements
from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
from bilten_orchestration.backups.clickhouse.selection import Table
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.errors import LockHeld, Mismatch, Refused, StoreUnavailable
from bilten_orchestration.metrics.leftovers import drop_build_tables
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, object_store
from tests.conftest import Servers
from tests.integration.backups.clickhouse.world import World, made
from tests.waiting import until

Environment = Callable[[Settings], dict[str, str]]
MIB = 1 << 20
SLOW = 5 * MIB
#: Some 30 MiB that do not compress: a backup of some seconds at SLOW.
BULK = "insert into marts.bulk select number, randomString(300) from numbers(100000)"


@pytest.fixture(scope="module")
def _module_world(servers: Servers) -> Iterator[World]:
    with made(servers, own_store=True) as world:
        client = world.client
        client.command(
            "create table marts.bulk (id UInt64, words String)"
            " engine = MergeTree order by id partition by id % 8"
        )
        client.command(BULK)
        yield world


@pytest.fixture
def world(_module_world: World) -> World:
    return _module_world


def _under_way(world: World) -> list[str]:
    return [each.id for each in operations.under_way(world.client)]


def _ids(world: World) -> list[str]:
    return [backup.manifest.id for backup in world.listed()]


TAKE = """
import os, signal, sys
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.clickhouse import base, digests
from bilten_orchestration.settings.loading import load_settings
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
at = sys.argv[1]
if at == "reading":
    read, digests.sealed.header = digests.sealed.header, die
elif at == "signing":
    catalogue.add = die
base.take(load_settings(), progress=lambda text: print(text, flush=True))
"""


@pytest.mark.parametrize(
    "at",
    [
        "backup",
        pytest.param("reading", marks=pytest.mark.faults),
        pytest.param("signing", marks=pytest.mark.faults),
    ],
)
def test_a_killed_backup_is_none_and_does_not_block_the_next(
    world: World, environment: Environment, at: str
) -> None:
    before = _ids(world)
    slow = world.with_backups(clickhouse_bytes_per_second=SLOW if at == "backup" else 0)
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE, at],
        env=environment(slow) | {"PYTHONPATH": str(Path(__file__).parents[4])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if at == "backup":
        # it follows: a client that goes away before the answer to BACKUP ASYNC takes the BACKUP along
        assert any("files," in line for line in process.stdout)
        process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    left = _under_way(world)
    assert len(left) == (1 if at == "backup" else 0), "the server goes on by itself"
    assert _ids(world) == before
    told: list[str] = []
    found = take(world.settings, progress=told.append).manifest
    assert [text for text in told if text.startswith("ending ")] == [
        f"ending {each}, which a process that was killed left in the server" for each in left
    ]
    assert _under_way(world) == []
    assert _ids(world) == [*before, found.id]
    assert restore(world.settings, found.id, Wanted(database="marts", rename=f"after_{at}")).rows


RESTORE = """
import os, signal, sys
from bilten_orchestration.backups.clickhouse import merges, operations
from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
from bilten_orchestration.settings.loading import load_settings
follow = operations._follow
def die(client, operation, *rest):
    if "-rows-" in operation:
        os.kill(os.getpid(), signal.SIGKILL)
    return follow(client, operation, *rest)
operations._follow = die
restore(load_settings(), sys.argv[1], Wanted(database="marts", rename="killed"))
"""


def test_a_killed_restore_is_told_and_never_gone_on_with(world: World, environment: Environment) -> None:
    taken = take(world.settings).manifest
    killed = subprocess.run(
        [sys.executable, "-c", RESTORE, taken.id],
        env=environment(world.settings) | {"PYTHONPATH": str(Path(__file__).parents[4])},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    client = world.client
    target = Wanted(database="marts", rename="killed")
    there = "select count() from system.parts where active and database = 'killed' and table = 'bulk'"
    # without a part there is nothing to merge
    until(lambda: client.query(there).first_row[0], "parts of the restore that was killed")
    tables = merges.left(client)
    assert Table("killed", "bulk") in tables
    (asked,) = [each for each in requirements(world.settings) if each.name == "merges"]
    assert not asked.met
    assert "system start merges `killed`.`bulk`" in asked.next
    with pytest.raises(ClickHouseError, match=r"(?i)cancelled|aborted"):
        client.command("optimize table killed.bulk final")
    told: list[str] = []
    with pytest.raises(Refused, match="holds rows"):
        restore(world.settings, taken.id, target, progress=told.append)
    assert any(text.startswith("merges on again in ") and "killed.bulk" in text for text in told)
    assert merges.left(client) == ()
    client.command("optimize table killed.bulk final")
    assert _under_way(world) == [], "what the dead one left running is ended"
    assert [backup.state for backup in world.listed() if backup.manifest.id == taken.id] == ["complete"]
    client.command("drop database killed sync")
    assert restore(world.settings, taken.id, target).rows["killed.bulk"] == 100_000


@pytest.mark.faults
def test_the_bound_of_what_is_read_holds(world: World) -> None:
    """By the server's own clock; a machine that is slow takes longer, never shorter."""
    taken = take(world.with_backups(clickhouse_bytes_per_second=SLOW)).manifest
    assert taken.kind == "full"
    ((seconds, size),) = world.client.query(
        "select dateDiff('millisecond', start_time, end_time) / 1000, total_size from system.backups"
        f" where status = 'BACKUP_CREATED' and position(name, '{taken.id}') > 0"
    ).result_rows
    assert size > 5 * SLOW
    assert seconds > (size - SLOW) / SLOW / 2


@pytest.mark.faults
def test_whoever_stops_waiting_ends_it(world: World) -> None:
    """Ctrl-C, or a run that is cancelled in the UI."""

    def leave(text: str) -> None:
        if "files," in text:
            raise KeyboardInterrupt

    before = _ids(world)
    with pytest.raises(KeyboardInterrupt):
        take(world.with_backups(clickhouse_bytes_per_second=SLOW), progress=leave)
    until(lambda: not _under_way(world), "the end of the backup")
    assert _ids(world) == before


def test_a_server_that_is_killed_in_the_middle(world: World) -> None:
    before, failed = _ids(world), []

    def run() -> None:
        try:
            take(world.with_backups(clickhouse_bytes_per_second=SLOW))
        except StoreUnavailable as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: _under_way(world), "the backup under way")
    world.server.kill()
    thread.join(timeout=60)
    world.server.start()
    assert "went away" in str(failed[0]) or "does not know of" in str(failed[0])
    assert _ids(world) == before
    assert take(world.settings).manifest.id in _ids(world)


@pytest.mark.faults
def test_an_object_store_that_goes_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_QUIET_SECONDS", 1.0)
    before, store = _ids(world), world.running[1]
    gone: list[str] = []

    def then_it_goes(text: str) -> None:
        if "files," in text and not gone:
            gone.append(text)
            store.kill()

    with pytest.raises(StoreUnavailable, match="does not serve"):
        take(world.with_backups(clickhouse_bytes_per_second=SLOW), progress=then_it_goes)
    store.start()
    assert _ids(world) == before
    assert take(world.settings).manifest.id in _ids(world)


def test_somebody_elses_backup(world: World) -> None:
    client = world.client
    before = _ids(world)
    client.command(
        f"backup database marts to Disk('{DISK['first']}', 'by-hand')"
        f" settings id = 'theirs', max_backup_bandwidth = {SLOW} async",
        settings={"query_id": "theirs"},
    )
    with pytest.raises(LockHeld, match="theirs"):
        take(world.settings)
    assert _under_way(world) == ["theirs"], "it is left alone"
    operations.cancel(client, "theirs")
    assert _ids(world) == before


def test_what_does_not_add_up_is_no_backup(world: World) -> None:
    """Another writer below the prefix, while the objects are read."""

    def intrude(text: str) -> None:
        if text.startswith("BACKUP took"):
            newest = max(name.split("/")[2] for name in world.names() if "-clickhouse-" in name)
            body = world.body(f"{PREFIX}/{newest}/.backup")
            world.put(f"{PREFIX}/{newest}/data/foreign.bin", body)

    before = _ids(world)
    with pytest.raises(Mismatch, match="does not hold what ClickHouse wrote"):
        take(world.settings, progress=intrude)
    assert _ids(world) == before


@pytest.mark.faults
def test_under_inserts(world: World) -> None:
    """BACKUP is no snapshot: what moved is not counted in the manifest, and known after the first restore."""
    done = threading.Event()

    def write() -> None:
        client = world.client
        while not done.is_set():
            client.command("insert into analytics.events select rand(), today(), 'x' from numbers(50)")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        found = take(world.with_backups(clickhouse_bytes_per_second=8 * MIB)).manifest
    finally:
        done.set()
        thread.join()
    assert "analytics.events" not in found.counts
    assert found.counts["marts.bulk"] == 100_000
    server = world.another()
    rows = restore(world.settings, found.id, target=server.settings).rows
    assert rows["analytics.events"] > 20_000
    there = clickhouse.connect(server.settings)
    (counts,) = there.query("select count(), count() % 50 from analytics.events").result_rows
    assert counts[0] == rows["analytics.events"]
    assert counts[1] == 0, "half an insert was restored"
    # later restores must find the same
    for name in ("analytics", "marts", "bilten_raw", "staging", "intermediate", "bilten_stage"):
        there.command(f"drop database {name} sync")
    assert restore(world.settings, found.id, target=server.settings).rows == rows


@pytest.mark.faults
def test_from_the_second_bucket_with_the_first_one_gone(world: World) -> None:
    full = take(world.settings).manifest
    world.client.command("insert into marts.empty values (1)")
    found = take(world.settings, "incremental").manifest
    assert found.parent == full.id
    buckets = world.settings.object_store
    client = object_store.connect(buckets)
    _exchange_buckets(world)
    client.delete_bucket(Bucket=buckets.bucket_backups)
    try:
        server = world.another()
        with pytest.raises(Mismatch, match="is not there"):
            restore(world.settings, found.id, target=server.settings)
        restore(world.settings, found.id, Wanted(bucket="copy"), target=server.settings)
        assert world.digest(clickhouse.connect(server.settings)) == world.digest()
    finally:
        client.create_bucket(Bucket=buckets.bucket_backups)
        _exchange_buckets(world)
        client.close()


def test_builds_do_not_wait_for_a_bucket_that_is_gone(world: World) -> None:
    """A server asks each disk before a table is gone for good, and one without its bucket for ever."""
    client, buckets = world.client, world.settings.object_store
    client.command("create table marts.fct_x__build_1 (a Int8) engine = MergeTree order by a")
    _exchange_buckets(world)
    store = object_store.connect(buckets)
    store.delete_bucket(Bucket=buckets.bucket_backups)
    dropped: list[str] = []
    try:
        thread = threading.Thread(target=lambda: dropped.extend(drop_build_tables(client)), daemon=True)
        thread.start()
        thread.join(timeout=20)
        assert dropped == ["fct_x__build_1"]
    finally:
        store.create_bucket(Bucket=buckets.bucket_backups)
        _exchange_buckets(world)
        store.close()


def _exchange_buckets(world: World) -> None:
    """What is in the first one, and nothing else, is in the second. The store caches directories: stopped."""
    store, names = world.running[1], world.settings.object_store
    first, copy = (
        store.program.directory / name for name in (names.bucket_backups, names.bucket_backups_copy)
    )
    store.stop()
    for source, place in ((first, copy.with_name("kept")), (copy, first), (copy.with_name("kept"), copy)):
        source.rename(place)
    store.start()


@pytest.mark.faults
def test_keys_that_are_rotated_wrong_and_missing(world: World) -> None:
    path = key_file(world.settings)
    old = keys.read(path)
    first = take(world.settings).manifest
    assert first.key_id == old.current
    new = keys.rotate(path)
    told: list[str] = []
    # the server was not restarted: it goes on under the key that it has, and the manifest says which
    between = take(world.settings, "incremental", progress=told.append).manifest
    assert between.key_id == old.current
    assert any("still encrypts under" in text for text in told)
    world.restart_with(new)
    last = take(world.settings, "incremental").manifest
    assert (last.key_id, last.parent) == (new.current, first.id)
    assert restore(world.settings, last.id, Wanted(database="marts", rename="rotated")).rows

    # a server with the disks of another key file: nobody could read what it writes
    body = path.read_bytes()
    path.unlink()
    other = keys.ensure(path)
    path.write_bytes(body)
    before = _ids(world)
    world.restart_with(other)
    with pytest.raises(Mismatch, match="not in the key file"):
        take(world.settings)
    assert _ids(world) == before
    with pytest.raises(Mismatch, match="failed in ClickHouse"):
        restore(world.settings, last.id, Wanted(database="marts", rename="wrong_key"))
    world.restart_with(new)

    path.rename(path.with_name("elsewhere.json"))
    with pytest.raises(Refused, match="there is no key file"):
        take(world.settings)
    path.with_name("elsewhere.json").rename(path)


@pytest.mark.faults
def test_a_broken_parent(world: World) -> None:
    full = take(world.settings).manifest
    world.client.command("insert into marts.empty values (2)")
    found = take(world.settings, "incremental").manifest
    (name,) = [each.name for each in full.objects if each.name.endswith("/.backup")]
    body = world.body(name)
    world.put(name, body[:-1] + bytes([body[-1] ^ 1]))
    try:
        with pytest.raises(Mismatch, match=full.id):
            restore(world.settings, found.id, Wanted(database="marts", rename="broken"))
    finally:
        world.put(name, body)
    assert world.client.query("exists database broken").result_rows == [(0,)]
    assert DISK["first"] in str(world.client.query("select name from system.backups").result_rows)
