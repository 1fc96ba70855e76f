"""A repository in a bucket of its own, on the session's object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.backups import keys
from bilten_orchestration.backups.repository import Repository
from bilten_orchestration.settings import BackupSettings, ObjectStoreSettings, Settings
from bilten_orchestration.stores.object_store import connect
from tests.conftest import Servers
from tests.integration.backups.depot import Depot


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
