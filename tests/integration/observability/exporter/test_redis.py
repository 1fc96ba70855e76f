"""Redis' numbers against INFO."""

from __future__ import annotations

from contextlib import closing

from bilten_orchestration.observability.exporter.redis import RedisInternals
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import redis
from tests.conftest import Servers
from tests.integration.observability.exporter.conftest import Series, series
from tests.waiting import until


def test_numbers_of_redis(servers: Servers) -> None:
    settings = Settings(environment="test", redis=servers.redis)

    def read() -> Series:
        return series(RedisInternals(settings))

    with closing(redis.connect(servers.redis)) as client:
        client.flushall()
        before = read()
        assert before["redis_keys",] == 0
        for number in range(5):
            client.set(f"k{number}", "x" * 1000)
        for name in ("k1", "k2", "k3", "nothing"):
            client.get(name)
        client.expire("k4", 1)
        until(lambda: client.dbsize() == 4, "one has expired")
        found = read()
        info = client.info()
        for name, least in (
            ("keyspace_hits", 3),
            ("keyspace_misses", 1),
            ("commands", 10),
            ("keys_expired", 1),
            ("received_bytes", 5000),
            ("connections", 1),
        ):
            key = (f"redis_{name}_total",)
            assert found[key] - before[key] >= least, name
        assert found["redis_keyspace_hits_total",] == info["keyspace_hits"]
        assert found["redis_keyspace_misses_total",] == info["keyspace_misses"]
        assert found["redis_keys_evicted_total",] == info["evicted_keys"]
        assert found["redis_keys",] == info["db0"]["keys"] == 4
        assert found["redis_memory_limit_bytes",] == info["maxmemory"]
        assert 0 < found["redis_memory_bytes",] < info["maxmemory"]
        assert found["redis_clients",] >= 2  # who asks, and this test
        assert found["redis_clients_limit",] == info["maxclients"]
        assert found["redis_rdb_last_save_timestamp_seconds",] == info["rdb_last_save_time"]
        assert found["redis_rdb_last_save_success",] == found["redis_aof_last_write_success",] == 1
        assert found["redis_aof_enabled",] == info["aof_enabled"]
        assert found["redis_start_timestamp_seconds",] <= info["rdb_last_save_time"]
        client.flushall()
