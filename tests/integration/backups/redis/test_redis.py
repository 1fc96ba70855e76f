"""Backups of a real Redis under writes, and the way back."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from redis import Redis

from bilten_orchestration.backups.preflight import examine
from bilten_orchestration.backups.redis import dump, programs, scratch, spool, stream
from bilten_orchestration.backups.redis import restore as restoring
from bilten_orchestration.backups.redis import target as place
from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.backups.redis.restore import restore
from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import AccessRefused, LockHeld, Mismatch, Refused, StoreUnavailable
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.local import ports
from bilten_orchestration.progress import silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, redis
from tests.integration.backups.cancelled import cancelled, sliced
from tests.integration.backups.redis.cache import KEPT, SLICE, Cache, fill, proxy
from tests.kills import killed_before_line
from tests.small_disk import mounted, needs_root
from tests.waiting import until

Environment = Callable[[Settings], dict[str, str]]


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_under_writes_and_back(cache: Cache, writer: None, diskless: str) -> None:
    with cache.client() as client:
        client.config_set("repl-diskless-sync", diskless)
    told: list[str] = []
    report = take(cache.settings, run="a-run", progress=told.append)
    manifest = report.manifest
    assert cache.listed() == [manifest.id]
    assert manifest.run == "a-run"
    assert manifest.versions == {"redis": programs.find(cache.settings).version}
    assert len(manifest.objects) == -(-manifest.raw_bytes // SLICE) > 2
    assert sum(each.raw_bytes for each in manifest.objects) == manifest.raw_bytes
    assert manifest.counts["db0"] in (KEPT, KEPT + 1)
    assert manifest.counts["db3"] == 4
    assert manifest.counts["db5"] > 100
    assert manifest.consistent_at is not None
    assert abs((manifest.consistent_at - manifest.started_at).total_seconds()) < 10
    assert any("redis-check-rdb" in text for text in told)
    assert list(spool.place(cache.settings).iterdir()) == []

    restored = cache.restored(manifest.id, start=True)
    assert restored.keys["db0"] == KEPT, "the expired one is dropped"
    assert restored.keys["db3"] == 4
    assert sum(restored.keys.values()) + restored.expired == sum(manifest.counts.values())
    assert restored.expired >= 1
    assert restored.dsn is not None
    with Redis.from_url(restored.dsn, db=0) as there, cache.client() as here:
        assert there.get("kept:7") == here.get("kept:7")
    with Redis.from_url(restored.dsn, db=5) as there:
        # a snapshot of one moment: the batches are transactions of 200
        count = int(there.get("count") or 0)
        assert count % 200 == 0 and count > 0
        there.set("written", "later")
    assert psutil.Process(restored.pid).name() == "redis-server"
    os.kill(restored.pid or 0, signal.SIGTERM)
    psutil.Process(restored.pid).wait(30)


def test_a_deployment_starts_on_what_was_restored(cache: Cache) -> None:
    """With `appendonly yes`, as the embedded one has it: what the append-only file is written for."""
    taken = take(cache.settings).manifest
    restored = cache.restored(taken.id)
    assert restored.dsn is None
    assert cache.servers_of_ours() == []
    left = sorted(path.name for path in restored.directory.iterdir())
    assert left in (["appendonly.aof", "dump.rdb"], ["appendonlydir", "dump.rdb"])
    assert not (cache.base / "restored.restoring").exists()

    cache.server.stop()
    data = cache.server.program.directory
    for path in [*data.glob("append*"), *data.glob("dump.rdb")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in restored.directory.iterdir():
        shutil.move(path, data / path.name)
    for _ in range(2):  # the second start reads what the first one's shutdown left
        cache.server.start()
        with cache.client() as client:
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.dbsize() == KEPT
            assert client.info("persistence")["aof_enabled"] == 1
        with cache.client(3) as client:
            assert client.dbsize() == 4
            assert client.hlen("counters") == 500
        cache.server.stop()


def test_an_empty_server_is_backed_up_and_restored(cache: Cache) -> None:
    with cache.client() as client:
        client.flushall()
    taken = take(cache.settings).manifest
    assert taken.counts == {}
    assert cache.restored(taken.id).keys == {}


# --- what goes wrong while a backup is taken -------------------------------------------------------------


@pytest.mark.parametrize("line", [30])
def test_a_killed_backup_is_none_and_the_next_one_is_whole(cache: Cache, line: int) -> None:
    assert killed_before_line(lambda: take(cache.settings), [dump], line)
    assert cache.listed() == []
    assert not list(cache.base.glob("home/spool/*")), "the spool has no names"
    report = take(cache.settings)
    assert cache.listed() == [report.manifest.id]
    assert cache.restored(report.manifest.id).keys["db0"] == KEPT


@pytest.mark.parametrize("at", ["spool", "/000000"])
def test_a_run_that_is_cancelled_leaves_nothing_at_work(
    cache: Cache, environment: Environment, at: str
) -> None:
    """While the snapshot comes in, and while it is stored: the server is rid of its replica and its child."""
    # large enough that the cancelled one cannot have been sent whole
    for database in range(8, 12):
        with cache.client(database) as client:
            fill(client, 12_000)
    large = sliced(cache.settings, 16 << 20)
    at_work = cancelled(large, environment(large), "redis", "full", at)
    assert any(name.endswith(at) for name in at_work.uploads) == (at != "spool")
    assert cache.listed() == []
    assert list(spool.place(cache.settings).iterdir()) == []
    with cache.client() as client:

        def at_rest() -> bool:
            return (
                client.info("replication")["connected_slaves"] == 0
                and client.info("persistence")["rdb_bgsave_in_progress"] == 0
            )

        until(at_rest, "the server ends the snapshot")
    report = take(cache.settings)
    assert cache.listed() == [report.manifest.id]


@pytest.mark.parametrize("diskless", [pytest.param("no", marks=pytest.mark.faults), "yes"])
def test_a_server_that_dies_in_the_middle_leaves_no_backup(cache: Cache, diskless: str) -> None:
    with cache.client() as client:
        client.config_set("repl-diskless-sync", diskless)

    def then_it_dies(piece: bytes, at: int) -> bytes | None:
        if at > SLICE and cache.server.process is not None:
            cache.server.kill()
            return None
        return piece

    with (
        proxy(cache.settings, then_it_dies) as through,
        pytest.raises(StoreUnavailable, match="did not send its snapshot whole") as told,
    ):
        take(through)
    assert "after" in told.value.problems[0].found
    assert cache.listed() == []
    cache.server.start()
    assert take(cache.settings).manifest.id in cache.listed()


@pytest.mark.parametrize("diskless", ["no", pytest.param("yes", marks=pytest.mark.faults)])
def test_a_bit_that_flips_on_the_way_makes_no_backup(cache: Cache, diskless: str) -> None:
    with cache.client() as client:
        client.config_set("repl-diskless-sync", diskless)

    def flipped(piece: bytes, at: int) -> bytes:
        if at <= SLICE < at + len(piece):
            here = SLICE - at
            return piece[:here] + bytes([piece[here] ^ 1]) + piece[here + 1 :]
        return piece

    with (
        proxy(cache.settings, flipped) as through,
        pytest.raises(Mismatch, match="redis-check-rdb does not accept") as told,
    ):
        take(through)
    assert "kept:" not in str(told.value), "a key may be a session's"
    assert cache.listed() == []


@pytest.mark.faults
def test_a_server_that_stops_sending_is_given_up(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = functools.partial(stream.snapshot, stalled_seconds=1)
    monkeypatch.setattr(stream, "snapshot", soon)
    released = threading.Event()

    def stopping(piece: bytes, at: int) -> bytes:
        if at > SLICE and not released.is_set():
            os.kill(cache.server.pid, signal.SIGSTOP)
            released.wait(60)  # and what the sockets hold already comes no further either
        return piece

    try:
        with (
            proxy(cache.settings, stopping) as through,
            pytest.raises(StoreUnavailable, match="did not send its snapshot whole") as told,
        ):
            take(through)
    finally:
        released.set()
        os.kill(cache.server.pid, signal.SIGCONT)
    assert "nothing for 1 s" in told.value.problems[0].found
    assert cache.listed() == []


def test_a_wrong_password_is_lasting(cache: Cache) -> None:
    with pytest.raises(AccessRefused, match="does not accept the password") as told:
        take(cache.changed(redis={"password": SecretStr("not-this-one")}))
    assert "not-this-one" not in str(told.value)
    with pytest.raises(AccessRefused, match="does not accept the password"):
        take(cache.changed(redis={"password": SecretStr("")}))


def test_a_server_that_is_away_is_passing(cache: Cache) -> None:
    cache.server.kill()
    with pytest.raises(StoreUnavailable, match="went away during the backup"):
        take(cache.settings)


def test_a_server_that_loads_is_passing(cache: Cache) -> None:
    """Slowed down, as one with much to load is slow; it answers every 2 MiB."""
    with cache.client() as client:
        client.flushall()
        for number in range(150):
            client.set(f"large:{number}", os.urandom(200_000))
        client.config_set("appendonly", "no")
        client.save()
    cache.server.stop()
    configuration = cache.server.program.directory / "redis.conf"
    text = configuration.read_text().replace("appendonly yes", "appendonly no")
    configuration.write_text(f"{text}key-load-delay 20000\n")
    ready, cache.server.ready = cache.server.ready, lambda: _listens(cache)
    cache.server.start()
    cache.server.ready = ready
    with pytest.raises(StoreUnavailable, match="is loading its data"):
        take(cache.settings)
    assert cache.listed() == []


def _listens(cache: Cache) -> str:
    try:
        socket.create_connection((cache.settings.redis.host or "", cache.settings.redis.port)).close()
    except OSError as error:
        raise StoreUnavailable(str(error)) from None
    return "listens"


def test_a_server_that_cannot_save_is_backed_up_past_its_disk(cache: Cache) -> None:
    """It refuses writes and PING (MISCONF): never is a backup worth more."""
    cache.server.program.directory.chmod(0o500)
    with cache.client() as client:
        client.config_set("repl-diskless-sync", "no")
    with pytest.raises(StoreUnavailable) as told:
        take(cache.settings)
    assert told.value.problems[-1].what.endswith("cannot save")
    assert "repl-diskless-sync yes" in told.value.problems[-1].next
    assert cache.listed() == []
    with pytest.raises(StoreUnavailable, match="cannot serve now"), cache.client():
        pass
    client = redis.client(cache.settings.redis)
    client.config_set("repl-diskless-sync", "yes")
    client.close()
    said: list[str] = []
    assert take(cache.settings, progress=said.append).manifest.counts["db0"] >= KEPT
    assert any("could not write its last snapshot" in text for text in said)


def test_a_user_without_the_right_is_told(cache: Cache) -> None:
    with cache.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-psync")
    with pytest.raises(AccessRefused, match="may not do its part of the snapshot"):
        take(cache.settings)
    found = {each.name: each for each in examine(cache.settings, "redis").requirements}
    assert not found["the snapshot may be asked for"].met


def test_an_object_store_that_is_away_is_passing(cache: Cache) -> None:
    away = cache.changed(object_store={"endpoint_url": f"http://127.0.0.1:{ports.any_free()}"})
    with pytest.raises(StoreUnavailable, match="the object store does not serve"):
        take(away)
    assert cache.listed() == []
    assert list(spool.place(cache.settings).iterdir()) == []


def test_two_at_once(cache: Cache) -> None:
    cache.settings.home.mkdir()
    with (
        exclusive(cache.settings.home / "backup-redis.lock", "another", silent),
        pytest.raises(LockHeld, match="another command"),
    ):
        take(cache.settings)
    assert cache.listed() == []


def test_a_spool_that_is_too_small_is_refused_before_anything(cache: Cache) -> None:
    with pytest.raises(Refused, match="too little room") as told:
        take(cache.changed(backups={"redis_spool_bytes": 1 << 20}))
    assert told.value.problems[0].next == "raise BILTEN_BACKUPS__REDIS_SPOOL_BYTES"


@needs_root
def test_a_disk_that_fills_up_meanwhile(cache: Cache) -> None:
    place = cache.base / "small"

    def filling(piece: bytes, at: int) -> bytes:
        if at > SLICE and not (place / "another").exists():
            with pytest.raises(OSError, match="No space left"):
                (place / "another").write_bytes(bytes(64 << 20))
        return piece

    with mounted(place, 12 << 20):
        settings = cache.changed(backups={"redis_spool": place})
        with (
            proxy(settings, filling) as through,
            pytest.raises(Refused, match="too little room") as told,
        ):
            take(through)
        assert "BILTEN_BACKUPS__REDIS_SPOOL" in told.value.problems[0].next
        assert [path.name for path in place.iterdir()] == ["another"]
        assert cache.listed() == []
        (place / "another").unlink()
        assert take(settings).manifest.id in cache.listed()


def test_programs_that_are_older_than_the_server_are_refused(cache: Cache) -> None:
    older = _program(cache, "5.0.14")
    with pytest.raises(Refused, match="is older than what is to be read"):
        take(cache.changed(redis={"redis_bin": older}))


def _program(cache: Cache, version: str) -> Path:
    """A redis-server that says another version of itself."""
    binary = programs.find(cache.settings).binary
    directory = cache.base / f"bin-{version}"
    directory.mkdir()
    script = directory / "redis-server"
    said = f'[ "$1" = --version ] && echo "Redis server v={version} bits=64" && exit'
    script.write_text(f'#!/bin/sh\n{said}\nexec {binary} "$@"\n')
    script.chmod(0o755)
    directory.chmod(0o755)
    return directory


# --- and on the way back ---------------------------------------------------------------------------------


@pytest.fixture
def taken(cache: Cache) -> str:
    return take(cache.settings).manifest.id


def test_a_restore_never_writes_over_anything(cache: Cache, taken: str) -> None:
    target = cache.base / "restored"
    target.mkdir()
    (target / "mine").write_text("kept")
    with pytest.raises(Refused, match="is not empty"):
        cache.restored(taken)
    assert [path.name for path in target.iterdir()] == ["mine"]


@pytest.mark.parametrize("line", [110])
def test_a_killed_restore_leaves_no_server_and_can_be_repeated(cache: Cache, taken: str, line: int) -> None:
    assert killed_before_line(lambda: cache.restored(taken), [restoring, scratch], line)
    assert not (cache.base / "restored").exists()
    _await_end_of_servers(cache)
    assert cache.restored(taken).keys["db0"] == KEPT
    assert not (cache.base / "restored.restoring").exists()


def _await_end_of_servers(cache: Cache) -> None:
    psutil.wait_procs(cache.servers_of_ours(), timeout=30)
    assert cache.servers_of_ours() == []


LEFT = """
import os, signal, sys
from pathlib import Path
from bilten_orchestration.backups.redis import restore, target
from bilten_orchestration.settings.loading import load_settings
target.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
restore.restore(load_settings(), sys.argv[1], Path(sys.argv[2]), start=True)
"""


def test_a_server_that_was_left_is_ended_by_the_next_restore(
    cache: Cache, taken: str, environment: Environment
) -> None:
    """What a kill between the start of a server that stays and the end leaves."""
    target = cache.base / "restored"
    killed = subprocess.run(
        [sys.executable, "-c", LEFT, taken, target],
        env=environment(cache.settings) | {"PYTHONPATH": str(Path(__file__).parents[4])},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = cache.servers_of_ours()
    said: list[str] = []
    report = restore(cache.settings, taken, target, progress=said.append)
    assert f"pid {left.pid}" in said[0]
    assert cache.servers_of_ours() == []
    assert report.keys["db0"] == KEPT


def test_two_restores_to_one_directory(cache: Cache, taken: str) -> None:
    from bilten_orchestration.local.privileges import server_user

    with (
        place.alone(cache.base / "restored.restoring", server_user(), silent),
        pytest.raises(LockHeld, match="another restore"),
    ):
        cache.restored(taken)


def test_an_older_server_is_refused(cache: Cache, taken: str) -> None:
    settings = cache.changed(redis={"redis_bin": _program(cache, "6.0.16")})
    with pytest.raises(Refused, match="is older than what is to be read"):
        restore(settings, taken, cache.base / "restored")
    assert not list(cache.base.glob("restored*"))


def test_all_that_forbids_a_restore_is_told_at_once(cache: Cache, taken: str) -> None:
    with Opened.of(cache.settings) as opened:
        manifest = catalogue.read(opened.repository, opened.ring).find(taken).manifest
        huge = replace(
            manifest,
            id=f"{taken}-huge",
            versions={"redis": "99.1.0"},
            raw_bytes=1 << 60,
            details={**manifest.details, "used_memory_bytes": str(1 << 60)},
        )
        catalogue.add(opened.repository, opened.ring, huge)
    target = cache.base / ("a" * 120)
    with pytest.raises(Refused) as told:
        restore(cache.settings, huge.id, target)
    for part, problem in zip(("older", "room", "memory", "too long"), told.value.problems, strict=True):
        assert part in problem.what
    assert not target.exists()


def test_a_backup_whose_keys_are_not_those_of_its_manifest_is_not_handed_over(
    cache: Cache, taken: str
) -> None:
    with Opened.of(cache.settings) as opened:
        manifest = catalogue.read(opened.repository, opened.ring).find(taken).manifest
        wrong = replace(manifest, counts={**manifest.counts, "db0": manifest.counts["db0"] + 1})
        name = f"catalogue/redis/{taken}/manifest.json"
        client = object_store.connect(cache.settings.object_store)
        from bilten_orchestration.backups.repository.manifest import sign

        client.put_object(
            Bucket=cache.settings.object_store.bucket_backups,
            Key=name,
            Body=sign(wrong, opened.ring, wrong.key_id),
        )
        client.close()
    with pytest.raises(Mismatch, match="does not hold the keys"):
        cache.restored(taken)
    assert not list(cache.base.glob("restored*"))


def test_from_the_second_bucket_alone(cache: Cache, taken: str) -> None:
    store = cache.settings.object_store
    other = cache.changed(
        object_store={
            "bucket_backups": store.bucket_backups_copy,
            "bucket_backups_copy": store.bucket_backups,
        }
    )
    with pytest.raises(Mismatch, match="there is no backup"):
        restore(other, taken, cache.base / "restored")
    report = restore(other, taken, cache.base / "restored", bucket="copy")
    assert report.keys["db0"] == KEPT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_a_place_that_the_server_cannot_walk_to_is_refused(cache: Cache, taken: str) -> None:
    private = cache.base / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(Refused, match="cannot walk to"):
        restore(cache.settings, taken, private / "restored")
    assert list(private.iterdir()) == []


def test_without_the_key_nothing_is_restored(cache: Cache, taken: str) -> None:
    path = key_file(cache.settings)
    path.rename(path.with_name("elsewhere.json"))
    with pytest.raises(Refused, match="there is no key file"):
        cache.restored(taken)
    keys.ensure(path)
    with pytest.raises(Mismatch, match="there is no backup"):
        cache.restored(taken)
    assert not list(cache.base.glob("restored*"))


@pytest.mark.parametrize("damage", ["flipped", pytest.param("cut", marks=pytest.mark.faults)])
def test_a_damaged_object_is_never_restored(cache: Cache, taken: str, damage: str) -> None:
    name = cache.damage(taken, damage)
    found = verify(cache.settings, taken, by="a test")
    assert [name in problem.what for problem in found.problems] == [True]
    with pytest.raises(Mismatch, match=name):
        cache.restored(taken)
    assert not list(cache.base.glob("restored*"))


# --- the command, and Dagster ----------------------------------------------------------------------------


def bilten(cache: Cache, environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-m", "bilten_orchestration.cli.main", *arguments],
        env=environment(cache.settings) | {"PYTHONPATH": str(Path(__file__).parents[4]), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in found.stdout + found.stderr
    assert cache.settings.redis.password.get_secret_value() not in found.stdout + found.stderr
    return found


def test_the_command(cache: Cache, environment: Environment) -> None:
    ready = bilten(cache, environment, "backup", "preflight", "redis")
    assert ready.returncode == 0, ready.stderr
    assert "NOT MET" not in ready.stdout
    assert max(map(len, ready.stdout.splitlines())) <= 80
    taken = bilten(cache, environment, "backup", "create", "redis")
    assert taken.returncode == 0, taken.stderr
    backup = taken.stdout.splitlines()[0]
    assert f"{KEPT + 4:,} keys" in taken.stdout or f"{KEPT + 5:,} keys" in taken.stdout
    target = cache.base / "restored"
    restored = bilten(
        cache, environment, "restore", "redis", "--backup", backup, "--to", str(target), "--start", "--json"
    )
    assert restored.returncode == 0, restored.stderr
    result = json.loads(restored.stdout)["result"]
    assert result["keys"]["db0"] == KEPT
    with Redis.from_url(result["dsn"]) as there:
        assert there.dbsize() == KEPT, "it outlives the command"
    subprocess.run(result["stop"].split(), check=True)
    psutil.wait_procs(cache.servers_of_ours(), timeout=30)
    assert cache.servers_of_ours() == []


def test_what_is_missing_is_named_with_what_mends_it(cache: Cache, environment: Environment) -> None:
    with cache.client() as client:
        client.config_set("auto-aof-rewrite-percentage", 0)
        client.config_set("auto-aof-rewrite-min-size", "128mb")
        client.config_set("appendfsync", "no")
        client.config_set("appendonly", "no")
    found = bilten(cache, environment, "backup", "preflight", "redis", "--json")
    assert found.returncode == 1
    problems = {each["what"].partition(":")[0]: each["next"] for each in json.loads(found.stdout)["problems"]}
    assert problems == {
        "appendonly": "config set appendonly yes; config rewrite",
        "appendfsync": "config set appendfsync everysec; config rewrite",
        "auto-aof-rewrite-percentage": "config set auto-aof-rewrite-percentage 100; config rewrite",
        "auto-aof-rewrite-min-size": "config set auto-aof-rewrite-min-size 64mb; config rewrite",
    }


def test_a_preflight_asks_for_no_snapshot(cache: Cache) -> None:
    with cache.client() as client:
        before = client.info("stats")["sync_full"], client.lastsave()
        examine(cache.settings, "redis")
        assert (client.info("stats")["sync_full"], client.lastsave()) == before


def test_what_a_managed_server_does_not_tell_is_not_met(cache: Cache) -> None:
    with cache.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    found = {each.name: each for each in examine(cache.settings, "redis").requirements}
    assert found["appendonly"].met, "INFO tells it"
    for name in ("appendfsync", "auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size", "rdbchecksum"):
        assert not found[name].met
        assert found[name].found.startswith("unknown: ")
    assert take(cache.settings).manifest.id in cache.listed(), "a backup needs none of them"


def test_a_run_takes_a_backup_and_checks_the_repository(cache: Cache) -> None:
    import dagster as dg

    from bilten_orchestration.backups import assets, checks
    from bilten_orchestration.stores.resources import Platform

    result = dg.materialize(
        [assets.ASSETS["redis", "full"], checks.LISTED["redis", "full"]],
        resources={"platform": Platform(cache.settings)},
    )
    (event,) = result.asset_materializations_for_node("backups__redis__full")
    assert cache.listed() == [event.metadata["backup"].value]
    assert event.metadata["counted"].value in (KEPT + 4, KEPT + 5)
    assert [each.passed for each in result.get_asset_check_evaluations()] == [True]


DEEP = """
import os, signal, sys
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.backups.redis.scratch import Scratch
from bilten_orchestration.settings.loading import load_settings
Scratch.append = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
verify(load_settings(), sys.argv[1], by="a test", deep=True)
"""


def test_a_deep_verification_loads_it(cache: Cache, environment: Environment) -> None:
    taken = take(cache.settings).manifest
    place = cache.settings.home / "verify"
    killed = subprocess.run(
        [sys.executable, "-c", DEEP, taken.id],
        env=environment(cache.settings) | {"PYTHONPATH": str(Path(__file__).parents[4])},
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL
    assert any(place.iterdir())
    told: list[str] = []
    report = verify(cache.settings, taken.id, by="a test", deep=True, progress=told.append)
    assert report.problems == ()
    assert report.deep.startswith(f"loaded by Redis {programs.find(cache.settings).version}: ")
    assert any("that was killed left" in text for text in told)
    assert not place.exists()
    assert cache.servers_of_ours() == []
    with cache.client() as client:
        assert client.dbsize() >= KEPT, "the live server is not asked"
    with Opened.of(cache.settings) as opened:
        found = catalogue.read(opened.repository, opened.ring, "redis").find(taken.id)
    assert [mark.details["deep"] for mark in found.marks] == [report.deep]
