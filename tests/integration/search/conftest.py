"""A catalogue in PostgreSQL, and what OpenSearch shows of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opensearchpy import OpenSearch

from bilten_orchestration.search import definition
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch
from tests.conftest import Servers
from tests.integration.search.shopfront import Shopfront, owner


@pytest.fixture
def search(settings: Settings, servers: Servers) -> Iterator[Settings]:
    """Small ranges and requests, so that a few hundred events are many; a lag that a loaded machine keeps."""
    small = settings.search.model_copy(
        update={
            "range_documents": 100,
            "bulk_bytes": 32 << 10,
            "lag_seconds": 30.0,
            "patience_seconds": 120,
            "lease_seconds": 30,
        }
    )
    value = settings.model_copy(update={"opensearch": servers.opensearch, "search": small})
    forget_indices(value)
    yield value
    forget_indices(value)


@pytest.fixture
def front(search: Settings) -> Iterator[Shopfront]:
    """300 events, 20 of them drafts."""
    with owner(search) as connection:
        yield Shopfront(connection, search).open(300)


def forget_indices(settings: Settings) -> None:
    client: OpenSearch = opensearch.connect(settings.opensearch)
    for name in client.indices.get(index=f"{definition.PREFIX}*"):
        client.indices.delete(index=name)
    client.close()
