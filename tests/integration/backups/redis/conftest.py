"""`cache`: a Redis of the test's own; `writer`: under writes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import pytest

from bilten_orchestration.settings import BackupSettings, Settings
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.redis.cache import KEPT, SLICE, Cache, fill


@pytest.fixture
def cache(servers: Servers) -> Iterator[Cache]:
    number = next(servers.numbers)
    server, redis_settings = stack.start_redis(servers.base, f"redis-{number}")
    base = servers.base / f"cache-{number}"
    base.mkdir(mode=0o755)
    settings = Settings(
        home=base / "home",
        environment="test",
        redis=redis_settings,
        object_store=servers.buckets(),
        backups=BackupSettings(slice_bytes=SLICE, lock_wait_seconds=0),
    )
    found = Cache(server, settings, base)
    with found.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
        fill(client, KEPT)
        client.set("session:gone", "x", px=1)
    with found.client(3) as client:
        client.hset("counters", mapping={str(number): number for number in range(500)})
        client.zadd("popular", {str(number): number for number in range(500)})
        client.xadd("stream", {"a": "b"})
        client.set("session:soon", "x", ex=3600)
    yield found
    server.kill()
    for process in found.servers_of_ours():
        process.kill()
    shutil.rmtree(base, ignore_errors=True)
    shutil.rmtree(servers.base / f"redis-{number}", ignore_errors=True)


@pytest.fixture
def writer(cache: Cache) -> Iterator[None]:
    """Somebody writes all the time, keys that expire among them."""
    done, begun = threading.Event(), threading.Event()

    def write() -> None:
        with cache.client(5) as client:
            number = 0
            while not done.is_set():
                with client.pipeline() as pipeline:
                    for _ in range(200):
                        number += 1
                        pipeline.set(f"moving:{number}", "x" * 200, px=300 if number % 4 == 0 else None)
                        pipeline.incr("count")
                    pipeline.execute()
                begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(30), "the writer writes"
        yield
    finally:
        done.set()
        thread.join()
