"""Clients of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.settings import RedisSettings

if TYPE_CHECKING:
    from redis import Redis


def connect(redis_settings: RedisSettings) -> Redis:
    """One client that has answered PING. Raises StoreUnavailable otherwise."""
    from redis import Redis
    from redis.exceptions import RedisError

    if redis_settings.host is None:
        raise StoreUnavailable(
            "Redis has no address",
            expected="BILTEN_REDIS__HOST, or the embedded server running",
            found="neither",
            next="bilten up",
        )
    client = Redis(
        host=redis_settings.host,
        port=redis_settings.port,
        db=redis_settings.database,
        password=redis_settings.password.get_secret_value() or None,
        ssl=redis_settings.tls,
        socket_connect_timeout=10,
        client_name="bilten",
    )
    try:
        client.ping()
    except RedisError as error:
        raise StoreUnavailable(
            f"Redis at {redis_settings.host}:{redis_settings.port} does not answer",
            expected="PONG",
            found=f"{type(error).__name__}: {error}",
            next="bilten status; bilten up starts the embedded server",
        ) from None
    return client
