"""A state directory on a disk that would not hold what a drill restores: a small file system indeed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from bilten_orchestration.backups.clickhouse.base import take as take_clickhouse
from bilten_orchestration.backups.redis.dump import take as take_redis
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.drills.chain import needed_bytes
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.drills.run import run
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import redis
from tests.conftest import Servers
from tests.integration.backups.clickhouse.world import made
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.conftest import here  # noqa: F401 (a fixture)
from tests.processes import at_work_in
from tests.small_disk import mounted, needs_root

pytestmark = [pytest.mark.faults, needs_root]


@contextmanager
def small(settings: Settings, mebibytes: int) -> Iterator[Settings]:
    """The same platform, with its state on a disk of that size."""
    with mounted(settings.home.with_name(f"small-{mebibytes}"), mebibytes << 20) as home:
        shutil.copy2(key_file(settings), home)
        yield settings.model_copy(update={"home": home})


def refused(
    settings: Settings, store: Store, way: str, mebibytes: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[DrillReport, int]:
    """The drill of somebody whose disk is so small, and MiB that it needs: nothing is fetched or left."""
    with Opened.of(settings, new=False) as opened:
        needed = needed_bytes(catalogue.read(opened.repository, opened.ring, store), store, newest=True)
    fetched: list[str] = []
    read = Repository.read

    def told(repository: Repository, name: str) -> Iterator[bytes]:
        fetched.append(name)
        return read(repository, name)

    with small(settings, mebibytes) as there:
        monkeypatch.setattr(Repository, "read", told)
        (report,) = run(there, store, way=way)
        monkeypatch.undo()
        place = there.home / f"drill-{store}"
        assert not place.exists()
        assert at_work_in(place) == []
    assert fetched, "the catalogue was read"
    assert [
        name for name in fetched if name.partition("/")[0] not in ("catalogue", "drills", "journal")
    ] == []
    assert (report.ok, report.rto_seconds, report.stored_bytes, report.proofs) == (False, None, 0, ())
    assert not {"download", "fetch", "start", "restore"} & set(report.phases)
    (problem,) = report.problems
    assert "too little room" in problem.what
    assert int(str(problem.found).removesuffix(" MiB").replace(",", "")) <= mebibytes
    return report, needed >> 20


def test_postgresql(shop: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    with Opened.of(shop.settings, new=False) as opened:
        found = catalogue.read(opened.repository, opened.ring, "postgres")
    needed = needed_bytes(found, "postgres", newest=True) >> 20
    report, _ = refused(shop.settings, "postgres", "latest", needed // 2, monkeypatch)
    assert report.failed_phase == "room"
    (problem,) = report.problems
    assert problem.expected == f"{needed:,} MiB"
    assert "BILTEN_HOME" in str(problem.next)
    # room for the base alone, and none for its WAL: the restore says so, before it fetches
    report, _ = refused(shop.settings, "postgres", "latest", needed + 2, monkeypatch)
    assert report.failed_phase == "find"
    (problem,) = report.problems
    assert int(str(problem.expected).removesuffix(" MiB")) >= needed + 16


def test_clickhouse(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    with made(servers) as world:
        world.client.command("insert into marts.empty select rand64() from numbers(1000000)")
        take_clickhouse(world.settings)
        before = world.digest()
        report, needed = refused(world.settings, "clickhouse", "engine", 3, monkeypatch)
        assert world.digest() == before
    assert report.failed_phase == "room"
    assert report.problems[0].expected == f"{needed:,} MiB"


def test_redis(
    here: Settings,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(redis.connect(here.redis)) as client:
        for number in range(8):
            client.set(f"large:{number}", random.randbytes(1 << 20))
    take_redis(here)
    report, needed = refused(here, "redis", "server", 3, monkeypatch)
    assert report.failed_phase == "room"
    assert report.problems[0].expected == f"{needed:,} MiB"
    assert needed >= 8
