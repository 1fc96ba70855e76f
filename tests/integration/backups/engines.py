"""The engines of backups side by side, each before a store that can be given bad days."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from bilten_orchestration.backups.clickhouse import operations
from bilten_orchestration.backups.clickhouse.restore import Wanted
from bilten_orchestration.backups.clickhouse.restore import restore as restore_clickhouse
from bilten_orchestration.backups.create import create
from bilten_orchestration.backups.redis.restore import restore as restore_redis
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.retention.prune import prune
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import BackupSettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores import redis as redis_store
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.clickhouse import world
from tests.integration.backups.redis.cache import fill
from tests.integration.backups.troubled_store import TroubledStore, before
from tests.processes import living, names
from tests.waiting import until

NAMES = ("postgres", "logical", "redis", "clickhouse")
_MIB = 1 << 20
_KEYS = 6_000
_WORDS = "(select string_agg(md5(i::text), '') from generate_series(n * 30, n * 30 + 29) i)"


@dataclass
class Engine:
    """`settings` lead through the store with troubles, `direct` past it. `restores` raises, or fails, for a
    backup that is not whole; `busy` says what the server still does for us."""

    name: str
    troubled: TroubledStore
    settings: Settings
    restores: Callable[[Settings, str], object]
    busy: Callable[[], list[Any]]

    @property
    def direct(self) -> Settings:
        return self.settings.model_copy(update={"object_store": self.troubled.behind})

    def impatient(self, seconds: int) -> Settings:
        store = self.settings.object_store.model_copy(update={"patience_seconds": seconds})
        return self.settings.model_copy(update={"object_store": store})

    def take(
        self, settings: Settings | None = None, kind: str | None = None, progress: Progress = silent
    ) -> Manifest:
        store, usual = ("postgres", "logical") if self.name == "logical" else (self.name, "full")
        return create(settings or self.settings, store, kind or usual, progress=progress).manifest

    def listed(self, settings: Settings | None = None) -> list[str]:
        with Opened.of(settings or self.direct) as opened:
            found = catalogue.read(opened.repository, opened.ring)
        assert found.problems == ()
        return [backup.manifest.id for backup in found.backups]

    def names(self) -> list[str]:
        with Opened.of(self.direct) as opened:
            return [each.name for each in opened.repository.list("")]

    def proves(self, backup: Manifest) -> None:
        """Every object is the one that was written, and all of it can be restored."""
        assert verify(self.direct, backup.id, by="a test").problems == ()
        self.restores(self.direct, backup.id)

    def sweep(self) -> None:
        """Retention without its time of grace; then nothing is left of what is not listed."""
        with Opened.of(self.direct) as opened:
            newest = max(each.written_at for each in opened.repository.list("objects/"))
            # which tells whole seconds
            until(lambda: opened.repository.clock() > newest, "the next second of the store's clock")
        hasty = self.direct.backups.model_copy(update={"orphan_grace_hours": 0})
        report = prune(self.direct.model_copy(update={"backups": hasty}), execute=True, by="a test")
        assert report.problems == ()
        listed = set(self.listed())
        with Opened.of(self.direct) as opened:
            assert list(opened.repository.unfinished()) == []
            assert {each.name.split("/")[2] for each in opened.repository.list("objects/")} <= listed

    def await_idle(self, seconds: float = 30) -> None:
        """Neither the server nor a program of ours is still at it."""
        until = time.monotonic() + seconds
        while found := [*self.busy(), *_programs()]:
            assert time.monotonic() < until, f"still at work: {found}"
            time.sleep(0.1)


def _programs() -> list[str]:
    ours = ("pg_basebackup", "pg_dump", "pg_dumpall", "pg_restore", "redis-check-rdb")
    children = psutil.Process().children(recursive=True)
    return sorted(names(living(lambda process: process.name() in ours, children)))


@contextmanager
def engine(servers: Servers, name: str) -> Iterator[Engine]:
    """One with some MiB that do not compress well, cut into ten objects or more."""
    patient = servers.buckets().model_copy(update={"patience_seconds": 120})
    with before(patient) as troubled:
        made = {"redis": _redis, "clickhouse": _clickhouse}.get(name, _postgres)
        with made(servers, name, troubled) as found:
            yield found


@contextmanager
def _postgres(servers: Servers, name: str, troubled: TroubledStore) -> Iterator[Engine]:
    number = next(servers.numbers)
    server = stack.start_postgres(servers.base, f"postgres-{number}")
    settings = Settings(
        home=servers.base / f"engine-{number}",
        environment="test",
        postgres=server.settings(),
        object_store=troubled.settings,
        backups=BackupSettings(slice_bytes=4 * _MIB, lock_wait_seconds=0),
    )
    settings.home.mkdir(mode=0o755)
    with postgres.connect(settings.postgres) as connection:
        connection.execute(
            f"create table kept as select n as id, {_WORDS} as words from generate_series(1, 30000) n"
        )

    def busy() -> list[Any]:
        with embedded.superuser(server.cluster) as connection:
            return connection.execute(
                "select application_name, state from pg_stat_activity"
                " where application_name like 'bilten 20%'"
                " union all select slot_name, 'a slot' from pg_replication_slots"
            ).fetchall()

    def restores(settings: Settings, backup_id: str) -> None:
        # a base backup is restored and pg_verifybackup reads it; a dump is read to its end, rows counted
        assert verify(settings, backup_id, by="a test", deep=True).problems == ()

    try:
        yield Engine(name, troubled, settings, restores, busy)
    finally:
        server.kill()
        for left in (settings.home, servers.base / f"postgres-{number}"):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _redis(servers: Servers, name: str, troubled: TroubledStore) -> Iterator[Engine]:
    number = next(servers.numbers)
    server, of_server = stack.start_redis(servers.base, f"redis-{number}")
    settings = Settings(
        home=servers.base / f"engine-{number}",
        environment="test",
        redis=of_server,
        object_store=troubled.settings,
        backups=BackupSettings(slice_bytes=_MIB, lock_wait_seconds=0),
    )
    settings.home.mkdir(mode=0o755)
    client = redis_store.connect(of_server)
    client.config_set("repl-diskless-sync-delay", 0)
    fill(client, _KEYS)

    def busy() -> list[Any]:
        return [count] if (count := client.info("replication")["connected_slaves"]) else []

    def restores(settings: Settings, backup_id: str) -> None:
        # a socket lies in it: 103 bytes in all
        target = settings.home / f"restored-{backup_id[-6:]}"
        assert restore_redis(settings, backup_id, target).keys == {"db0": _KEYS}
        shutil.rmtree(target)

    try:
        yield Engine(name, troubled, settings, restores, busy)
    finally:
        client.close()
        server.kill()
        for left in (settings.home, servers.base / f"redis-{number}"):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _clickhouse(servers: Servers, name: str, troubled: TroubledStore) -> Iterator[Engine]:
    with world.made(servers, store=troubled.settings) as made:
        client = made.client
        client.command(
            "create table marts.bulk (id UInt64, words String)"
            " engine = MergeTree order by id partition by id % 8"
        )
        client.command("insert into marts.bulk select number, randomString(300) from numbers(50000)")

        def busy() -> list[Any]:
            return [each.id for each in operations.under_way(client)]

        def restores(settings: Settings, backup_id: str) -> None:
            restored = Wanted(database="marts", rename="restored")
            try:
                rows = restore_clickhouse(settings, backup_id, restored).rows
                assert rows["restored.bulk"] == 50_000
            finally:
                client.command("drop database if exists restored sync")

        yield Engine(name, troubled, made.settings, restores, busy)
