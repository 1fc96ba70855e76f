"""Backups of a real ClickHouse under inserts, and the way back onto servers, databases and single tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from bilten_orchestration.backups import keys
from bilten_orchestration.backups.clickhouse.base import take
from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
from bilten_orchestration.backups.opened import key_file
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import LockHeld, Mismatch, Refused, UsageError
from bilten_orchestration.stores import clickhouse
from tests.conftest import Servers
from tests.integration.backups.clickhouse_world import ROWS, World, made

RAW_ROWS = 600  # of 20,100: an insert is merged as it is written


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
    with pytest.raises(UsageError, match="no table marts.nothing"):
        restore(world.settings, taken, Wanted(table="marts.nothing"))
    with pytest.raises(UsageError, match="as another one"):
        restore(world.settings, taken, Wanted(rename="x"))


@pytest.mark.parametrize("damage", ["data.bin", "count.txt", "cut", "removed", "exchanged"])
def test_a_damaged_object_is_never_restored(world: World, taken: str, damage: str) -> None:
    (manifest,) = (backup.manifest for backup in world.listed() if backup.manifest.id == taken)
    ending = damage if damage in ("data.bin", "count.txt") else "data.bin"
    names = [each.name for each in manifest.objects if each.name.endswith(ending)]
    body = world.body(names[0])
    other = {
        "data.bin": body[:80] + bytes([body[80] ^ 1]) + body[81:],
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
        if damage in ("cut", "removed"):
            # and nothing is built on it: the next one is a full backup
            assert "bilten" not in (found := take(world.settings, "incremental").manifest).parent or ""
            assert found.kind == "full"
    finally:
        world.put(names[0], body)
