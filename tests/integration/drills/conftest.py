"""Fixtures of the drills: those of backups, with migrated databases where rows are kept."""

from __future__ import annotations

from contextlib import closing

import pytest

from bilten_orchestration.settings import BackupSettings, Settings
from bilten_orchestration.stores import redis
from tests.integration.backups.redis.cache import SLICE, fill
from tests.integration.backups.redis.conftest import cache  # noqa: F401


@pytest.fixture
def here(settings: Settings) -> Settings:
    """The platform with a Redis of some keys: of two databases, some that expire, every type."""
    value = settings.model_copy(update={"backups": BackupSettings(slice_bytes=SLICE, lock_wait_seconds=0)})
    value.home.mkdir(parents=True, mode=0o755)
    with closing(redis.connect(value.redis)) as client:
        client.config_set("repl-diskless-sync-delay", 0)
        fill(client, 300)
        for number in range(40):
            client.set(f"session:{number}", "x", ex=3600)
            client.hset(f"live:{number}", mapping={"views": number, "name": "é"})
        client.zadd("popular", {"a": 1.5, "b": 2})
        client.sadd("tags", "x", "y")
        client.rpush("queue", "1", "2")
        client.xadd("stream", {"a": "b"})
    with closing(redis.connect(value.redis.model_copy(update={"database": 3}))) as client:
        client.set("0d5ab1f3-a-token", "x", ex=7200)
    return value
