"""kill -9 all along a backup of Redis and a restore, stores that go away, damage and full disks.

After each: nothing good is lost, nothing bad is listed, no server of ours is left, and the same again works.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bilten_orchestration.backups.redis import dump, rdb, scratch, spool, stream
from bilten_orchestration.backups.redis import restore as restoring
from bilten_orchestration.backups.redis import target as place
from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.backups.redis.restore import restore
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import BiltenError, LockHeld, Mismatch, Refused, StoreUnavailable
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.redis.cache import KEPT, Cache, proxy
from tests.kills import killed_before_line
from tests.processes import at_work_in
from tests.small_disk import mounted, needs_root

pytestmark = pytest.mark.faults
# lines between two kills
BACKUP_STEP, RESTORE_STEP = 9, 29


@pytest.mark.parametrize("diskless", ["no", "yes"])
def test_a_backup_killed_all_along(cache: Cache, diskless: str) -> None:
    with cache.client() as client:
        client.config_set("repl-diskless-sync", diskless)
    patient = cache.changed(backups={"lock_wait_seconds": 30})
    good = [take(patient).manifest.id]
    line = 1
    while killed_before_line(lambda: take(patient), [dump, stream, spool, rdb], line):
        listed = cache.listed()
        assert set(listed) >= set(good)
        for late in set(listed) - set(good):  # killed after its manifest was stored: it is one
            assert verify(cache.settings, late, by="a test").problems == ()
            good.append(late)
        assert list(spool.place(cache.settings).iterdir()) == []
        line += BACKUP_STEP
    assert line > 12 * BACKUP_STEP
    last = take(patient).manifest
    assert last.id in cache.listed()
    assert cache.restored(last.id).keys["db0"] == KEPT
    with cache.client() as client:
        assert client.info("replication")["connected_slaves"] == 0


@pytest.mark.parametrize("start", [False, True])
def test_a_restore_killed_all_along(cache: Cache, start: bool) -> None:
    taken = take(cache.settings).manifest.id
    target = cache.base / "restored"
    line = 1
    while killed_before_line(
        lambda: cache.restored(taken, start=start), [restoring, place, scratch, rdb], line
    ):
        if not start:
            psutil.wait_procs(cache.servers_of_ours(), timeout=30)
            assert cache.servers_of_ours() == []
        if target.exists():  # killed after the last step: it is whole
            assert {"dump.rdb"} < {path.name for path in target.iterdir()}
            scratch.end(target)
            shutil.rmtree(target)
        line += RESTORE_STEP
    assert line > 8 * RESTORE_STEP
    report = restore(cache.settings, taken, cache.base / "restored-again")
    assert report.keys["db0"] == KEPT
    scratch.end(target)
    assert cache.servers_of_ours() == []


@pytest.mark.parametrize("damage", ["removed", "exchanged"])
def test_an_object_that_is_gone_or_another_one(cache: Cache, damage: str) -> None:
    taken = take(cache.settings).manifest.id
    name = cache.damage(taken, damage)
    with pytest.raises(Mismatch, match=name):
        cache.restored(taken)
    assert not list(cache.base.glob("restored*"))


@pytest.mark.parametrize("diskless", ["no", "yes"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_connection_that_is_cut(cache: Cache, diskless: str, part: float) -> None:
    with cache.client() as client:
        client.config_set("repl-diskless-sync", diskless)
    size = take(cache.settings).manifest.raw_bytes
    good = cache.listed()
    at_most = 200 + int(size * part)

    def cut(piece: bytes, at: int) -> bytes | None:
        return None if at + len(piece) > at_most else piece

    with proxy(cache.settings, cut) as through, pytest.raises(StoreUnavailable):
        take(through)
    assert cache.listed() == good
    assert list(spool.place(cache.settings).iterdir()) == []


def test_an_answer_that_is_none(cache: Cache) -> None:
    """A proxy, or a server that speaks something else."""

    def nonsense(piece: bytes, at: int) -> bytes:
        return piece.replace(b"+FULLRESYNC", b"+WELCOME")

    with (
        proxy(cache.settings, nonsense) as through,
        pytest.raises(BiltenError, match="answers PSYNC in a way that is not known"),
    ):
        take(through)


def test_two_backups_of_one_server(cache: Cache) -> None:
    """Both whole, one after the other; or, without patience, one refused."""
    patient = cache.changed(backups={"lock_wait_seconds": 60})
    taken: list[str] = []
    threads = [threading.Thread(target=lambda: taken.append(take(patient).manifest.id)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(cache.listed())
    assert len(taken) == 3


def test_two_restores_to_one_directory_at_once(cache: Cache) -> None:
    taken = take(cache.settings).manifest.id
    ended: list[object] = []

    def one() -> None:
        try:
            ended.append(cache.restored(taken).keys["db0"])
        except (LockHeld, Refused) as error:
            ended.append(type(error))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended.count(KEPT) == 1
    assert len(ended) == 3
    assert {"dump.rdb"} < {path.name for path in (cache.base / "restored").iterdir()}


def test_the_object_store_goes_away(cache: Cache, servers: Servers) -> None:
    from bilten_orchestration.backups.repository.bucket import Repository

    store, settings = stack.start_object_store(servers.base, f"object-store-{next(servers.numbers)}")
    own = Cache(cache.server, cache.settings.model_copy(update={"object_store": settings}), cache.base)
    try:
        good = take(own.settings).manifest.id
        write, goes = Repository.write, threading.Lock()

        def then_it_goes(self: Repository, name: str, chunks: object) -> object:
            written = write(self, name, chunks)  # type: ignore[arg-type]
            with goes:  # two are written at once
                store.kill()
            return written

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Repository, "write", then_it_goes)
            with pytest.raises(StoreUnavailable, match="the object store does not serve"):
                take(own.settings)
        with pytest.raises(StoreUnavailable):
            own.restored(good)
        assert not list(cache.base.glob("restored*"))
        store.start()
        assert own.listed() == [good]
        assert take(own.settings).manifest.id in own.listed()
        assert own.restored(good).keys["db0"] == KEPT
    finally:
        store.kill()


@needs_root
@pytest.mark.parametrize("when", ["downloading", "appending"])
def test_a_restore_whose_disk_fills_up(cache: Cache, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = take(cache.settings).manifest.id
    place = cache.base / "small"

    def fill(*_: object) -> None:
        with pytest.raises(OSError, match="No space left"):
            (place / "another").write_bytes(bytes(64 << 20))

    def first(work: Callable[..., object]) -> Callable[..., object]:
        def filled(*arguments: object, **named: object) -> object:
            fill()
            return work(*arguments, **named)

        return filled

    with mounted(place, 10 << 20):
        if when == "downloading":
            monkeypatch.setattr(restoring, "_download", first(restoring._download))
        else:
            monkeypatch.setattr(scratch.Scratch, "append", first(scratch.Scratch.append))
        with pytest.raises((Refused, Mismatch)) as told:
            restore(cache.settings, taken, place / "restored")
        said = told.value.problems[0]
        assert "room" in said.what + said.next
        assert [path.name for path in place.iterdir()] == ["another"], "what was begun is removed"
        assert at_work_in(place) == []
        (place / "another").unlink()
        monkeypatch.undo()
        assert restore(cache.settings, taken, place / "restored").keys["db0"] == KEPT


def _servers_in(place: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cwd"])
        if (process.info["cwd"] or "").startswith(str(place)) and process.status() != psutil.STATUS_ZOMBIE
    ]


def test_many_backups_under_writes_are_moments(cache: Cache, writer: None) -> None:
    """Each a moment of its own: what a transaction writes is there whole or not at all."""
    from redis import Redis

    for number in range(4):
        with cache.client() as client:
            client.config_set("repl-diskless-sync", ("no", "yes")[number % 2])
        report = restore(
            cache.settings, take(cache.settings).manifest.id, cache.base / f"restored-{number}", start=True
        )
        assert report.dsn is not None
        with Redis.from_url(report.dsn, db=5) as there:
            assert int(there.get("count") or 0) % 200 == 0
        assert scratch.end(report.directory) == [report.pid]
