"""Clients of OpenSearch. Only calls that Elasticsearch has too are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bilten_orchestration.errors import AccessRefused, Problem, StoreFull, StoreUnavailable, TerminalError
from bilten_orchestration.settings import OpenSearchSettings

if TYPE_CHECKING:
    from opensearchpy import OpenSearch
    from opensearchpy.exceptions import TransportError

_ANSWER_SECONDS = 10
# a full disk's answer, as 403 or 429 by version
_BLOCKED = "cluster_block_exception"
_NOT_THERE = "index_not_found_exception"


def off(settings: OpenSearchSettings) -> Problem:
    """Why there is no search, where there is none, and what brings it."""
    if settings.not_fetched_from is None:
        return Problem(
            "search is off",
            expected="BILTEN_OPENSEARCH__ENABLED=true",
            found="false",
            next="set it, and bilten up; or leave search alone",
        )
    return Problem(
        "search is off: OpenSearch could not be downloaded",
        expected="its jars, once, from Maven Central or a mirror",
        found=f"not to be had from {settings.not_fetched_from}",
        next="set BILTEN_OPENSEARCH__MAVEN_URL to a mirror, or BILTEN_OPENSEARCH__URL to an OpenSearch of"
        " yours, then bilten up",
    )


def connect(
    settings: OpenSearchSettings, *, timeout_seconds: float = _ANSWER_SECONDS, compressed: bool = True
) -> OpenSearch:
    """One client that has been answered. `timeout_seconds` bounds each answer. Raises as `translated`."""
    found = client(settings, timeout_seconds=timeout_seconds, compressed=compressed)
    with translated(settings):
        found.info()
    return found


def client(
    settings: OpenSearchSettings, *, timeout_seconds: float = _ANSWER_SECONDS, compressed: bool = True
) -> OpenSearch:
    """One client, nothing sent yet, that tries nothing twice. Raises StoreUnavailable without an address.

    `compressed`: what is sent and answered travels as gzip.
    """
    from opensearchpy import OpenSearch

    if settings.url is None and not settings.enabled:
        raise StoreUnavailable(off(settings))
    if settings.url is None:
        raise StoreUnavailable(
            "OpenSearch has no address",
            expected="BILTEN_OPENSEARCH__URL, or the embedded node running",
            found="neither",
            next="bilten up",
        )
    return OpenSearch(
        settings.url,
        http_auth=(settings.user, settings.password.get_secret_value()) if settings.user else None,
        timeout=timeout_seconds,
        max_retries=0,
        http_compress=compressed,
    )


@contextmanager
def translated(settings: OpenSearchSettings, doing: str = "") -> Iterator[None]:
    """The driver's errors as ours; `doing` completes 'OpenSearch went away during ...'.

    Raises StoreUnavailable (no answer, or one that will be another one later: 429 and 5xx), AccessRefused
    (401, 403), StoreFull (a block on writing) or TerminalError (a request that was refused).
    """
    from opensearchpy import exceptions

    try:
        yield
    except (exceptions.AuthenticationException, exceptions.AuthorizationException) as error:
        if error.error == _BLOCKED:
            raise _full(settings, doing, error) from None
        raise AccessRefused(
            f"OpenSearch at {settings.url} does not let us in",
            expected="a user that may do this",
            found=str(error)[:300],
            next="correct BILTEN_OPENSEARCH__USER and __PASSWORD",
        ) from None
    except (exceptions.ConnectionError, exceptions.ConnectionTimeout) as error:
        raise _away(settings, doing, f"{type(error).__name__}: {error.info}") from None
    except exceptions.TransportError as error:
        if error.error == _BLOCKED and error.status_code == 429:
            raise _full(settings, doing, error) from None
        if error.status_code == 429 or (isinstance(error.status_code, int) and error.status_code >= 500):
            raise _away(settings, doing, f"{error.status_code}: {error.error}") from None
        raise TerminalError(
            f"OpenSearch at {settings.url} refused {doing or 'a request'}",
            expected="an answer",
            found=str(error)[:300],
            next="bilten search status; bilten search reindex builds an index"
            if error.error == _NOT_THERE
            else "see the server's log",
        ) from None


def _full(settings: OpenSearchSettings, doing: str, error: TransportError) -> StoreFull:
    return StoreFull(
        f"OpenSearch at {settings.url} has blocked writes" + (f", and so {doing}" if doing else ""),
        expected="indices that can be written",
        found=str(error)[:300],
        next="make room on its disk, and lift the block where it does not go by itself "
        "(index.blocks.read_only_allow_delete: null); then the same again",
    )


def _away(settings: OpenSearchSettings, doing: str, found: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"OpenSearch at {settings.url} went away during {doing}"
        if doing
        else f"OpenSearch at {settings.url} does not answer",
        expected="an answer",
        found=found[:300],
        next="bilten status; bilten up starts the embedded node",
    )
