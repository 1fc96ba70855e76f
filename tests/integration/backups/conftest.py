"""Fixtures of backups.

repository   a repository in a bucket of its own, on the session's object store
depot        two of them, with made-up backups
shop         a PostgreSQL with rows, and a repository; `writer`: under writes; `started`: a restored one
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local import privileges
from bilten_orchestration.settings import BackupSettings, ObjectStoreSettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.object_store import connect
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.depot import Depot
from tests.integration.backups.shop import SLICE, Shop, writing


@pytest.fixture
def buckets(servers: Servers) -> ObjectStoreSettings:
    return servers.buckets()


@pytest.fixture
def repository(buckets: ObjectStoreSettings) -> Iterator[Repository]:
    client = connect(buckets)
    yield Repository(client, buckets.bucket_backups)
    client.close()


@pytest.fixture
def ring(tmp_path: Path) -> keys.KeyRing:
    return keys.ensure(tmp_path / "keys.json")


@pytest.fixture
def depot(servers: Servers, tmp_path: Path, buckets: ObjectStoreSettings) -> Depot:
    """Without migrations: the session's PostgreSQL holds the locks alone."""
    return Depot(
        Settings(
            home=tmp_path / "home",
            environment="test",
            postgres=servers.postgres.settings(),
            object_store=buckets,
            backups=BackupSettings(lock_wait_seconds=0, copy_reread_days=0),
        )
    )


@pytest.fixture
def shop(servers: Servers, own_postgres: stack.PostgresServer) -> Iterator[Shop]:
    base = servers.base / f"backup-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    settings = Settings(
        home=base / "home",
        environment="test",
        postgres=own_postgres.settings(),
        object_store=servers.buckets(),
        backups=BackupSettings(slice_bytes=SLICE, lock_wait_seconds=0),
    )
    with postgres.connect(settings.postgres) as connection:
        connection.execute(
            "create table kept as select n as id, md5(n::text) || md5((n + 1)::text) as words"
            " from generate_series(1, 200000) n"
        )
        connection.execute("create table moving (id bigserial primary key, words text)")
    yield Shop(own_postgres, settings, base)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def writer(shop: Shop) -> Iterator[None]:
    with writing(shop):
        yield


@pytest.fixture
def started(shop: Shop) -> Iterator[Callable[[Path], stack.PostgresServer]]:
    """Starts a server on a restored directory."""
    servers: list[stack.PostgresServer] = []

    def start(directory: Path) -> stack.PostgresServer:
        user = privileges.server_user()
        privileges.server_directory(directory, user)
        if user is not None:
            for path in [directory, *directory.rglob("*")]:
                os.chown(path, user.uid, user.gid)
        cluster = embedded.Cluster(
            data=directory,
            socket_directory=shop.base / "socket",
            port=stack.ports.any_free(),
            bin=shop.server.cluster.bin,
            user=user,
        )
        embedded.initialise(cluster)
        server = stack.PostgresServer(
            program=embedded.program(cluster),
            ready=lambda: _accepts(server),
            log=shop.base / "log",
            user=user,
            cluster=cluster,
        )
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


def _accepts(server: stack.PostgresServer) -> str:
    with postgres.connect(server.superuser, autocommit=True) as connection:
        connection.execute("select 1")
    return "ready"
