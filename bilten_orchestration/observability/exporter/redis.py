"""Redis, as one INFO tells it. Counters begin again when the server starts, or at CONFIG RESETSTAT."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.series import Collected, counter, gauge
from bilten_orchestration.settings import Settings

_R = "bilten_redis_"

STARTED = gauge(f"{_R}start_timestamp_seconds", "When the server started")
MEMORY = gauge(f"{_R}memory_bytes", "Memory of data and buffers")
MEMORY_RESIDENT = gauge(f"{_R}memory_resident_bytes", "Memory as the operating system counts it")
MEMORY_LIMIT = gauge(f"{_R}memory_limit_bytes", "Memory from which keys are evicted; absent without one")
CLIENTS = gauge(f"{_R}clients", "Client connections")
CLIENTS_BLOCKED = gauge(f"{_R}clients_blocked", "Clients that wait in a blocking command")
CLIENTS_LIMIT = gauge(f"{_R}clients_limit", "Client connections that may be")
CONNECTED = counter(f"{_R}connections_total", "Connections taken")
REJECTED = counter(f"{_R}connections_rejected_total", "Connections refused because of the limit")
COMMANDS = counter(f"{_R}commands_total", "Commands")
HITS = counter(f"{_R}keyspace_hits_total", "Keys looked up and found")
MISSES = counter(f"{_R}keyspace_misses_total", "Keys looked up and not found")
EVICTED = counter(f"{_R}keys_evicted_total", "Keys given up for want of memory")
EXPIRED = counter(f"{_R}keys_expired_total", "Keys whose time had passed")
RECEIVED = counter(f"{_R}received_bytes_total", "Bytes received")
SENT = counter(f"{_R}sent_bytes_total", "Bytes sent")
KEYS = gauge(f"{_R}keys", "Keys of the platform's database")
SAVED = gauge(f"{_R}rdb_last_save_timestamp_seconds", "When an RDB file was last saved, or the start")
SAVE_OK = gauge(f"{_R}rdb_last_save_success", "Whether the last save of an RDB file succeeded")
UNSAVED = gauge(f"{_R}rdb_changes_since_last_save", "Changes since then")
AOF = gauge(f"{_R}aof_enabled", "Whether it keeps an append-only file")
AOF_OK = gauge(f"{_R}aof_last_write_success", "Whether the last write to that file succeeded")
LOADING = gauge(f"{_R}loading", "Whether it is loading its data")
REPLICAS = gauge(f"{_R}replicas", "Replicas connected")

_FIELDS: Final = {
    MEMORY: "used_memory",
    MEMORY_RESIDENT: "used_memory_rss",
    CLIENTS: "connected_clients",
    CLIENTS_BLOCKED: "blocked_clients",
    CLIENTS_LIMIT: "maxclients",
    CONNECTED: "total_connections_received",
    REJECTED: "rejected_connections",
    COMMANDS: "total_commands_processed",
    HITS: "keyspace_hits",
    MISSES: "keyspace_misses",
    EVICTED: "evicted_keys",
    EXPIRED: "expired_keys",
    RECEIVED: "total_net_input_bytes",
    SENT: "total_net_output_bytes",
    SAVED: "rdb_last_save_time",
    UNSAVED: "rdb_changes_since_last_save",
    AOF: "aof_enabled",
    LOADING: "loading",
    REPLICAS: "connected_slaves",
}


@dataclass(frozen=True, slots=True)
class RedisInternals:
    settings: Settings
    name: str = "metrics/redis"
    needs: tuple[str, ...] = ("store/redis",)

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.metrics_seconds

    def read(self) -> Reading:
        from bilten_orchestration.stores import redis

        asked = self.settings.redis
        with closing(redis.client(asked)) as client, redis.translated(asked, "the look at INFO"):
            info = client.info()
        return Reading(samples=_collected(info, asked.database).samples)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


def _collected(info: Mapping[str, Any], database: int) -> Collected:
    found = Collected()
    for family, name in _FIELDS.items():
        found.add(family, info.get(name))
    found.add(MEMORY_LIMIT, info.get("maxmemory") or None)
    if "server_time_usec" in info:
        found.add(STARTED, info["server_time_usec"] // 1_000_000 - info["uptime_in_seconds"])
    found.add(SAVE_OK, _said_ok(info.get("rdb_last_bgsave_status")))
    found.add(AOF_OK, _said_ok(info.get("aof_last_write_status")))
    found.add(KEYS, info.get(f"db{database}", {"keys": 0})["keys"])  # an empty one is not listed
    return found


def _said_ok(said: str | None) -> int | None:
    return None if said is None else int(said == "ok")
