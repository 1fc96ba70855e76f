"""A repository in a bucket of its own, on the session's object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.backups import keys
from bilten_orchestration.backups.repository import Repository
from bilten_orchestration.settings import ObjectStoreSettings
from bilten_orchestration.stores.object_store import connect
from tests.conftest import Servers


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
