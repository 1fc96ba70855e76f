"""Where the servers are: for our own requests, and for people."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from bilten_orchestration.local.ports import LOOPBACK
from bilten_orchestration.settings import Settings

EVERYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True)
class Webserver:
    """Dagster's webserver. Our requests go to `url`, on this machine; messages show `shown`, which may be a
    proxy that asks people who they are."""

    url: str
    shown: str


def webserver(settings: Settings) -> Webserver:
    dagster = settings.dagster
    host = EVERYWHERE.get(dagster.host, dagster.host)
    return Webserver(f"http://{_authority(host, dagster.port)}", ui(settings))


def ui(settings: Settings) -> str:
    """Where people find Dagster: BILTEN_DAGSTER__URL, or the host that the webserver listens on (this
    machine's name where it listens on all addresses)."""
    dagster = settings.dagster
    if dagster.url:
        return dagster.url.rstrip("/")
    host = socket.gethostname() if dagster.host in EVERYWHERE else dagster.host
    return f"http://{_authority(host, dagster.port)}"


def of_stores(settings: Settings) -> dict[str, str]:
    """Address of each store that has one, by the name of its program."""
    postgres, clickhouse, redis = settings.postgres, settings.clickhouse, settings.redis
    found = {
        "postgres": postgres.host and _authority(postgres.host, postgres.port),
        "clickhouse": clickhouse.host and _authority(clickhouse.host, clickhouse.port),
        "redis": redis.host and _authority(redis.host, redis.port),
        "object-store": settings.object_store.endpoint_url,
        "opensearch": settings.opensearch.url if settings.opensearch.enabled else None,
    }
    return {name: address for name, address in found.items() if address}


def of_servers(settings: Settings) -> dict[str, str]:
    """The stores, Dagster as people reach it, and its code server."""
    return {
        **of_stores(settings),
        "dagster": ui(settings),
        "dagster-code": _authority(LOOPBACK, settings.dagster.code_server_port),
        "watchdog": watchdog(settings),
    }


def watchdog(settings: Settings) -> str:
    """Where people and machines find the watchdog."""
    serve = settings.serve
    if serve.url:
        return serve.url.rstrip("/")
    host = socket.gethostname() if serve.host in EVERYWHERE else serve.host
    return f"http://{_authority(host, serve.port)}"


def watchdog_here(settings: Settings) -> str:
    """The same for our own requests, on this machine."""
    host = EVERYWHERE.get(settings.serve.host, settings.serve.host)
    return f"http://{_authority(host, settings.serve.port)}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
