"""Clients of Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bilten_orchestration.errors import (
    AccessRefused,
    BiltenError,
    Refused,
    StoreUnavailable,
    TerminalError,
)
from bilten_orchestration.settings import RedisSettings

if TYPE_CHECKING:
    from redis import Redis

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 5
_RETRIES = 2
# first words of errors that pass by themselves (src/server.c and src/replication.c there)
_PASSING = ("LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "NOMASTERLINK", "CLUSTERDOWN", "MISCONF", "OOM")
_WRONG_PASSWORD = ("NOAUTH", "WRONGPASS", "ERR invalid password", "ERR Client sent AUTH")


def connect(redis_settings: RedisSettings) -> Redis:
    """One client that has answered PING. Raises as `translated`."""
    found = client(redis_settings)
    with translated(redis_settings):
        found.ping()
    return found


def client(redis_settings: RedisSettings, *, timeout_seconds: float = _ANSWER_SECONDS) -> Redis:
    """One client, nothing sent yet. `timeout_seconds` bounds each answer.

    Raises StoreUnavailable when there is no address.
    """
    from redis import Redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    if redis_settings.host is None:
        raise StoreUnavailable(
            "Redis has no address",
            expected="BILTEN_REDIS__HOST, or the embedded server running",
            found="neither",
            next="bilten up",
        )
    return Redis(
        host=redis_settings.host,
        port=redis_settings.port,
        db=redis_settings.database,
        password=redis_settings.password.get_secret_value() or None,
        ssl=redis_settings.tls,
        socket_connect_timeout=_CONNECT_SECONDS,
        client_name="bilten",
        socket_timeout=timeout_seconds,
        # the driver's own ten attempts take minutes where a server hangs
        retry=Retry(ExponentialBackoff(cap=1, base=0.1), _RETRIES),
    )


@contextmanager
def translated(redis_settings: RedisSettings, doing: str = "") -> Iterator[None]:
    """The driver's errors as ours; `doing` completes 'Redis went away during ...'.

    Raises StoreUnavailable (no answer; one that will be another one later: it is loading, it cannot save),
    AccessRefused (the password, the user's rights) or TerminalError (a command that was refused).
    """
    from redis import exceptions

    address = address_of(redis_settings)
    try:
        yield
    except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
        raise _password(address, str(error)) from None
    except exceptions.NoPermissionError as error:
        raise refusal(redis_settings, f"NOPERM {error}", doing) from None
    except (exceptions.BusyLoadingError, exceptions.MasterDownError) as error:
        raise _passing(address, str(error)) from None
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise StoreUnavailable(
            f"Redis at {address} went away during {doing}"
            if doing
            else f"Redis at {address} does not answer",
            expected="an answer",
            found=f"{type(error).__name__}: {error}",
            next="bilten status; bilten up starts the embedded server",
        ) from None
    except exceptions.OutOfMemoryError as error:
        raise _passing(address, str(error)) from None
    except exceptions.ResponseError as error:
        raise refusal(redis_settings, str(error), doing) from None


def refusal(redis_settings: RedisSettings, said: str, doing: str) -> BiltenError:
    """An error that the server answered with, its first word included, as one of ours."""
    address = address_of(redis_settings)
    if said.startswith(_WRONG_PASSWORD):
        return _password(address, said)
    if said.startswith("NOPERM"):
        return AccessRefused(
            f"the user of Redis at {address} may not do its part of {doing or 'this'}",
            expected="a user with the right to this command",
            found=said[:300],
            next="acl setuser <user> +@all ~* on the server, or another password",
        )
    if said.startswith(_PASSING) or "BGSAVE failed" in said:
        return _passing(address, said)
    if "unknown command" in said.lower():
        return Refused(
            f"Redis at {address} does not know a command of {doing or 'this'}",
            expected="a server of your own: providers take this command away",
            found=said[:100],
            next="bilten backup preflight redis; or keep the provider's own snapshots",
        )
    return TerminalError(
        f"Redis at {address} refused a command of {doing or 'this'}",
        expected="an answer",
        found=said[:300],
        next="see the server's log",
    )


def address_of(redis_settings: RedisSettings) -> str:
    """Host and port, for people."""
    return f"{redis_settings.host}:{redis_settings.port}"


def _password(address: str, said: str) -> AccessRefused:
    return AccessRefused(
        f"Redis at {address} does not accept the password",
        expected="BILTEN_REDIS__PASSWORD to be that of the default user",
        found=said[:200],
        next="correct BILTEN_REDIS__PASSWORD",
    )


def _passing(address: str, said: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"Redis at {address} cannot serve now",
        expected="a server that has loaded its data and can save it",
        found=said[:300],
        next="the same again later; the server's log says why if it persists",
    )
