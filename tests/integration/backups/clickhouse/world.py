"""A ClickHouse of a test's own with the platform's databases, and a repository that its disks lie in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from bilten_orchestration.backups.clickhouse import disks, server
from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.local import ports
from bilten_orchestration.settings import BackupSettings, ObjectStoreSettings, PostgresSettings, Settings
from bilten_orchestration.stores import clickhouse, object_store
from tests import stack
from tests.conftest import Servers

ROWS = 20_000
TABLES = f"""
create table bilten_raw.tickets (id UInt64, status String, version UInt64, is_deleted UInt8)
    engine = ReplacingMergeTree(version, is_deleted) order by id;
create table analytics.events (id UInt64, day Date, words String)
    engine = MergeTree order by id partition by toYYYYMM(day);
create table analytics.per_day (day Date, clicks SimpleAggregateFunction(sum, UInt64))
    engine = AggregatingMergeTree order by day;
create materialized view analytics.per_day_fed to analytics.per_day
    as select day, count() as clicks from analytics.events group by day;
create materialized view analytics.per_word (k UInt64, n UInt64)
    engine = SummingMergeTree order by k as select id % 7 as k, 1 as n from analytics.events;
create view staging.tickets as select * from bilten_raw.tickets final where is_deleted = 0;
create table marts.`fct odd-name` (id UInt64, amount Decimal(18, 3)) engine = MergeTree order by id;
create view intermediate.amounts as select sum(amount) as amount from marts.`fct odd-name`;
create table marts.empty (id UInt64) engine = MergeTree order by id;
insert into bilten_raw.tickets select number % 500, 'active', number, 0 from numbers({ROWS});
insert into bilten_raw.tickets select number, 'refunded', 99999, 0 from numbers(100);
insert into analytics.events
    select number, toDate('2026-01-01') + number % 90, hex(sipHash128(number)) from numbers({ROWS});
insert into marts.`fct odd-name` select number, number / 4 from numbers(1000);
"""
DIGESTS = (
    "select count(), sum(cityHash64(*)) from {0}bilten_raw.tickets final",
    "select count(), sum(cityHash64(*)) from {0}analytics.events",
    "select sum(clicks), count(distinct day) from {0}analytics.per_day",
    "select sum(n), count(distinct k) from {0}analytics.per_word",
    "select count(), sum(id) from {0}staging.tickets",
    "select amount from {0}intermediate.amounts",
)


@dataclass
class World:
    """`client` speaks with `server`; `settings` are of the platform."""

    servers: Servers
    server: stack.ClickHouseServer
    settings: Settings
    base: Path
    running: list[stack.Server] = field(default_factory=list)

    @property
    def client(self) -> Client:
        return clickhouse.connect(self.settings.clickhouse)

    def digest(self, client: Client | None = None) -> list[Any]:
        asked = client or self.client
        return [asked.query(query.format("")).result_rows for query in DIGESTS]

    def listed(self) -> list[Backup]:
        with Opened.of(self.settings, new=False) as opened:
            found = catalogue.read(opened.repository, opened.ring)
        assert found.problems == ()
        return list(found.backups)

    def another(self) -> stack.ClickHouseServer:
        """An empty server with the same disks."""
        ring = keys.read(key_file(self.settings))
        found = stack.start_clickhouse(
            self.servers.base,
            f"clickhouse-{next(self.servers.numbers)}",
            disks=disks.configuration(self.settings.object_store, ring),
        )
        self.running.append(found)
        return found

    def with_backups(self, **changed: Any) -> Settings:
        return self.settings.model_copy(update={"backups": self.settings.backups.model_copy(update=changed)})

    def restart_with(self, ring: keys.KeyRing) -> None:
        """The server with the disks of these keys, as `bilten up` restarts it."""
        file = self.server.program.directory / "disks.xml"
        file.write_text(disks.configuration(self.settings.object_store, ring))
        self.server.restart()

    def put(self, name: str, body: bytes | None) -> None:
        """Other bytes under a name, or none."""
        client = object_store.connect(self.settings.object_store)
        bucket = self.settings.object_store.bucket_backups
        if body is None:
            client.delete_object(Bucket=bucket, Key=name)
        else:
            client.put_object(Bucket=bucket, Key=name, Body=body)
        client.close()

    def body(self, name: str) -> bytes:
        with Opened.of(self.settings, new=False) as opened:
            return b"".join(opened.repository.read(name))

    def names(self, prefix: str = disks.PREFIX) -> list[str]:
        with Opened.of(self.settings, new=False) as opened:
            return [each.name for each in opened.repository.list(f"{prefix}/")]


def fill(client: Client) -> None:
    for name in (*server.DATABASES, server.LEFT_OUT):
        client.command(f"create database {name}")
    for statement in TABLES.split(";"):
        if statement.strip():
            client.command(statement)


@contextmanager
def made(
    servers: Servers, *, own_store: bool = False, store: ObjectStoreSettings | None = None
) -> Iterator[World]:
    """PostgreSQL is away there: locks hold on this machine. With `own_store` the object store is the last of
    `running`, for tests that stop it; `store` is one that is there."""
    base = servers.base / f"clickhouse-world-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    running: list[stack.Server] = []
    if own_store:
        server_of_store, store = stack.start_object_store(base)
        running.append(server_of_store)
    elif store is None:
        store = servers.buckets()
    home = base / "home"
    ring = keys.ensure(home / "backup-keys.json")
    found = stack.start_clickhouse(
        servers.base,
        f"clickhouse-{next(servers.numbers)}",
        disks=disks.configuration(store, ring),
    )
    settings = Settings(
        home=home,
        environment="test",
        postgres=PostgresSettings(host=ports.LOOPBACK, port=1, password=stack.PASSWORD),
        clickhouse=found.settings,
        object_store=store,
        backups=BackupSettings(lock_wait_seconds=0, stalled_seconds=60),
    )
    world = World(servers, found, settings, base, [found, *running])
    try:
        fill(world.client)
        yield world
    finally:
        for each in world.running:
            each.kill()
            shutil.rmtree(each.program.directory, ignore_errors=True)
        shutil.rmtree(base, ignore_errors=True)
