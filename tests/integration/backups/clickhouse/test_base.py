"""Backups of a real ClickHouse under inserts, and the way back onto servers, databases and single tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.backups.clickhouse import disks
from bilten_orchestration.backups.clickhouse.base import take
from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
from bilten_orchestration.backups.clickhouse.server import DATABASES
from bilten_orchestration.backups.preflight import examine
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import LockHeld, Mismatch, Refused, UsageError
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.clickhouse.world import ROWS, World, fill, made
from tests.integration.backups.command import Environment, bilten


@pytest.fixture(scope="module")
def _module_world(servers: Servers) -> Iterator[World]:
    with made(servers) as world:
        yield world


@pytest.fixture
def world(_module_world: World) -> World:
    return _module_world


def test_full_and_incremental_and_back_onto_another_server(world: World) -> None:
    told: list[str] = []
    first = take(world.settings, "incremental", run="a-run", progress=told.append).manifest
    assert (first.kind, first.parent, first.run) == ("full", None, "a-run")
    assert first.details["instead_of_incremental"] == "the repository has no full backup of this server"
    assert first.counts["analytics.events"] == ROWS
    assert first.sealing == "clickhouse"
    assert {each.name for each in first.objects} == set(world.names(f"objects/clickhouse/{first.id}"))
    assert b"ROT" not in world.body(first.objects[0].name)

    client = world.client
    client.command("insert into analytics.events select number, today(), 'later' from numbers(50000, 100)")
    second = take(world.settings, "incremental").manifest
    third = take(world.settings, "incremental").manifest
    assert second.parent == third.parent == first.id, "always on the full one: a restore reads two"
    assert second.stored_bytes < first.stored_bytes / 2

    # what ClickHouse encrypts is whole, which does not make the backup a verified one
    report = verify(world.settings, third.id, by="a test")
    assert report.problems == ()
    assert [backup.state for backup in world.listed()] == ["complete"] * 3

    other = world.another()
    restored = restore(world.settings, third.id, target=other.settings)
    there = clickhouse.connect(other.settings)
    assert world.digest(there) == world.digest()
    assert restored.rows["analytics.events"] == ROWS + 100
    assert restored.rows["analytics.per_word"] > 0, "the rows behind a view without a name of its own"
    assert "intermediate.amounts" in restored.tables
    assert there.query("exists database bilten_stage").result_rows == [(1,)]
    # the view fires for what comes now, once
    before = world.digest(there)[2][0][0]
    there.command("insert into analytics.events select number, today(), 'now' from numbers(10)")
    assert world.digest(there)[2][0][0] == before + 10

    there.command("optimize table bilten_raw.tickets final")  # merges are on again
    parts = "select count() from system.parts where active and database = 'bilten_raw'"
    assert there.query(parts).result_rows == [(1,)]

    # it counts as verified, and what it holds is known now
    marked = world.listed()[-1]
    assert marked.state == "verified"
    assert marked.marks[0].details["rows of analytics.events"] == str(ROWS + 100)
    again = world.another()
    assert restore(world.settings, third.id, target=again.settings).rows == restored.rows


def test_a_database_without_tables_comes_back(world: World) -> None:
    """What was migrated is there again, also before the first build."""
    tables = [name for (name,) in world.client.query("show tables from intermediate").result_rows]
    assert tables
    world.client.command("create database aside")  # for the other tests
    for table in tables:
        world.client.command(f"rename table intermediate.`{table}` to aside.`{table}`")
    try:
        backup = take(world.settings).manifest.id
    finally:
        for table in tables:
            world.client.command(f"rename table aside.`{table}` to intermediate.`{table}`")
        world.client.command("drop database aside")
    other = world.another()
    restore(world.settings, backup, target=other.settings)
    there = clickhouse.connect(other.settings)
    for name in DATABASES:
        assert there.query(f"exists database {name}").result_rows == [(1,)], name
    assert there.query("show tables from intermediate").result_rows == []


@pytest.fixture(scope="module")
def taken(_module_world: World) -> str:
    return take(_module_world.settings).manifest.id


def test_rows_are_never_written_over_and_all_of_it_is_told(world: World, taken: str) -> None:
    before = world.digest()
    with pytest.raises(Refused) as told:
        restore(world.settings, taken)
    assert {problem.what.split()[0] for problem in told.value.problems} >= {
        "analytics.events",
        "bilten_raw.tickets",
        "marts.fct",
    }
    assert world.digest() == before


def test_as_another_database_and_one_table(world: World, taken: str) -> None:
    client = world.client
    preview = restore(world.settings, taken, Wanted(database="marts", rename="marts_before"), preview=True)
    assert preview.tables == ("marts_before.empty", "marts_before.fct odd-name")
    assert client.query("exists database marts_before").result_rows == [(0,)]
    report = restore(world.settings, taken, Wanted(database="marts", rename="marts_before"))
    assert report.rows == {"marts_before.fct odd-name": 1000}
    assert not report.verified
    one = restore(world.settings, taken, Wanted(table="analytics.per_day", rename="rescued"))
    assert one.tables == ("rescued.per_day",)
    assert client.query("select sum(clicks) from rescued.per_day").result_rows[0][0] >= ROWS
    client.command("drop table marts.`fct odd-name` sync")
    back = restore(world.settings, taken, Wanted(table="marts.fct odd-name"))
    assert back.rows == {"marts.fct odd-name": 1000}
    with pytest.raises(UsageError, match=r"no table marts\.nothing"):
        restore(world.settings, taken, Wanted(table="marts.nothing"))
    with pytest.raises(UsageError, match="as another one"):
        restore(world.settings, taken, Wanted(rename="x"))


@pytest.mark.parametrize(
    "damage",
    [
        "data.bin",
        "count.txt",
        "removed",
        *(pytest.param(each, marks=pytest.mark.faults) for each in ("cut", "exchanged")),
    ],
)
def test_a_damaged_object_is_never_restored(world: World, taken: str, damage: str) -> None:
    (manifest,) = (backup.manifest for backup in world.listed() if backup.manifest.id == taken)
    ending = damage if damage in ("data.bin", "count.txt") else "data.bin"
    names = [each.name for each in manifest.objects if each.name.endswith(ending)]
    body = world.body(names[0])
    other = {
        "data.bin": body[:64] + bytes([body[64] ^ 1]) + body[65:],
        "count.txt": body[:64] + bytes([body[64] ^ 1]) + body[65:],
        "cut": body[:-1],
        "removed": None,
        "exchanged": world.body(names[1]),
    }[damage]
    world.put(names[0], other)
    try:
        assert [names[0] in each.what for each in verify(world.settings, taken, by="a test").problems] == [
            True
        ]
        target = Wanted(database="marts", rename="damaged")
        with pytest.raises(Mismatch) as told:
            restore(world.settings, taken, target)
        assert names[0] in told.value.problems[0].what
        assert world.client.query("exists database damaged").result_rows == [(0,)]
    finally:
        world.put(names[0], body)


def test_nothing_is_built_on_a_full_one_that_is_not_whole(world: World, taken: str) -> None:
    full = [backup.manifest for backup in world.listed() if backup.manifest.kind == "full"][-1]
    name = full.objects[-1].name
    body = world.body(name)
    world.put(name, None)
    try:
        found = take(world.settings, "incremental").manifest
    finally:
        world.put(name, body)
    assert found.kind == "full"
    assert found.details["instead_of_incremental"] == f"{name} is not there"


def test_the_command_line(world: World, environment: Environment) -> None:
    taken = bilten(world, environment, "backup", "create", "clickhouse", "--kind", "incremental", "--json")
    assert taken.returncode == 0, taken.stderr
    backup = json.loads(taken.stdout)["result"]["backup"]
    assert backup["store"] == "clickhouse"
    for command in (
        ("backup", "preflight", "clickhouse"),
        ("backup", "list"),
        ("backup", "verify", backup["id"]),
        (
            "restore",
            "clickhouse",
            "--backup",
            backup["id"],
            "--database",
            "marts",
            "--as",
            "cli",
            "--preview",
        ),
        ("restore", "clickhouse", "--backup", backup["id"], "--database", "marts", "--as", "cli"),
    ):
        found = bilten(world, environment, *command)
        assert found.returncode == 0, found.stderr
        assert max(map(len, found.stdout.splitlines())) <= 80
    other = world.another().settings
    url = f"http://{other.user}@{other.host}:{other.port}"
    onto = bilten(
        world,
        environment,
        *("restore", "clickhouse", "--backup", backup["id"], "--to-url", url, "--json"),
        CLICKHOUSE_PASSWORD=other.password.get_secret_value(),
    )
    assert onto.returncode == 0, onto.stderr
    assert json.loads(onto.stdout)["result"]["rows"]["marts.fct odd-name"] == 1000
    refused = bilten(world, environment, "restore", "clickhouse", "--backup", backup["id"], "--json")
    assert refused.returncode == 1
    assert len(json.loads(refused.stdout)["problems"]) > 2


def test_the_disks_are_written_for_a_server_of_ones_own(
    world: World, environment: Environment, tmp_path: Path
) -> None:
    file = tmp_path / "bilten.xml"
    found = bilten(world, environment, "backup", "clickhouse-disks", "--to", str(file))
    assert found.returncode == 0, found.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    ring = keys.read(key_file(world.settings))
    assert file.read_text() == disks.configuration(world.settings.object_store, ring)
    for key in ring.keys.values():
        assert disks.disk_key(key).hex() not in found.stdout + found.stderr
    away = bilten(world, environment, "backup", "clickhouse-disks", "--to", str(tmp_path / "no" / "x"))
    assert away.returncode == 1


def test_a_server_without_disks(world: World, own_clickhouse: stack.ClickHouseServer) -> None:
    """Each prerequisite with what mends it, and a backup that says the same."""
    bare = world.settings.model_copy(update={"clickhouse": own_clickhouse.settings})
    report = examine(bare, "clickhouse")
    said = {problem.what.partition(": needed")[0]: problem.next for problem in report.problems}
    assert set(said) == {
        "databases of the platform are missing",
        "the disk bilten_backups",
        "the disk bilten_backups_copy",
    }
    assert "clickhouse-disks" in said["the disk bilten_backups"]
    assert examine(world.settings, "clickhouse").problems == ()
    fill(clickhouse.connect(own_clickhouse.settings))
    with pytest.raises(Refused, match="the disk bilten_backups"):
        take(bare)
    taken_ = world.listed()[-1].manifest.id
    with pytest.raises(Refused) as told:
        restore(world.settings, taken_, target=own_clickhouse.settings)
    assert {problem.what.split()[0] for problem in told.value.problems} >= {"the", "marts.fct"}


def test_two_at_once(world: World) -> None:
    file = world.settings.home / "backup-clickhouse.lock"
    backup = world.listed()[-1].manifest.id
    with exclusive(file, "another", lambda text: None, wait_seconds=0):
        with pytest.raises(LockHeld):
            take(world.settings)
        with pytest.raises(LockHeld):
            restore(world.settings, backup, Wanted(database="marts", rename="never"))


def test_the_platforms_own_schema_onto_a_server_that_was_migrated(servers: Servers, tmp_path: Path) -> None:
    store = servers.buckets()
    fragment = disks.configuration(store, keys.ensure(tmp_path / "backup-keys.json"))
    first, second = (
        stack.start_clickhouse(servers.base, f"clickhouse-{next(servers.numbers)}", disks=fragment)
        for _ in range(2)
    )
    servers.running.extend((first, second))
    settings = []
    for server in (first, second):
        database = f"test_{next(servers.numbers)}"
        servers.create_database(database)
        settings.append(
            Settings(
                home=tmp_path,
                environment="test",
                postgres=servers.postgres.settings(database),
                clickhouse=server.settings,
                object_store=store,
            )
        )
        runner.up(settings[-1])
    client, other = (clickhouse.connect(each.clickhouse) for each in settings)
    client.command("insert into analytics.events (timestamp) select now64(3) - number from numbers(1000)")
    client.command(
        "insert into bilten_raw.users_organizations (id) select generateUUIDv4() from numbers(500)"
    )
    realtime = "select count(), sum(cityHash64(*)) from analytics.realtime_minutes"
    taken = take(settings[0]).manifest
    report = restore(settings[1], taken.id)
    assert report.rows == taken.counts
    assert report.rows["analytics.events"] == 1000
    assert other.query(realtime).result_rows == client.query(realtime).result_rows
    for server, each in zip((first, second), settings, strict=True):
        server.kill()
        servers.running.remove(server)
        servers.drop_database(each.postgres.database)
