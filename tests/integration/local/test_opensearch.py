"""The embedded node: fetched, started, searched, killed and started again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bilten_orchestration.errors import StoreUnavailable, TerminalError
from bilten_orchestration.local import health
from bilten_orchestration.local.opensearch import jars
from bilten_orchestration.settings import OpenSearchSettings, Settings
from bilten_orchestration.stores import opensearch
from tests import stack
from tests.conftest import Servers

pytestmark = pytest.mark.faults  # until there is search: 75 MB of jars are fetched for it

INDEX = {
    "settings": {
        "number_of_shards": 3,
        "number_of_replicas": 0,
        "analysis": {
            "analyzer": {"event": {"tokenizer": "standard", "filter": ["lowercase", "stop", "snowball"]}}
        },
    },
    "mappings": {"properties": {"title": {"type": "text", "analyzer": "event"}}},
}


@pytest.fixture(scope="module")
def node(servers: Servers) -> Iterator[tuple[stack.Server, OpenSearchSettings]]:
    with stack.stopping() as running:
        server, settings = stack.start_opensearch(servers.base, f"opensearch-{next(servers.numbers)}")
        running.append(server)
        yield server, settings


def test_what_was_acknowledged_outlives_a_kill(node: tuple[stack.Server, OpenSearchSettings]) -> None:
    server, settings = node
    client = opensearch.connect(settings)
    client.indices.create(index="kept", body=INDEX)
    # external versions, as the rebuild writes: an older one never wins
    client.index(index="kept", id="1", body={"title": "Running concerts"}, version=5, version_type="external")
    with pytest.raises(TerminalError, match="409"), opensearch.translated(settings, "a write"):
        client.index(index="kept", id="1", body={"title": "Older"}, version=4, version_type="external")
    server.kill()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        opensearch.connect(settings)
    server.start()
    client.indices.refresh(index="kept")
    found = client.search(index="kept", body={"query": {"match": {"title": "a run to the concert"}}})
    assert [hit["_source"] for hit in found["hits"]["hits"]] == [{"title": "Running concerts"}]
    client.indices.delete(index="kept")
    client.close()


def test_a_write_for_no_index_makes_none(node: tuple[stack.Server, OpenSearchSettings]) -> None:
    _, settings = node
    client = opensearch.connect(settings)
    with pytest.raises(TerminalError, match="no such index"), opensearch.translated(settings):
        client.index(index="mistyped", body={"title": "lost"})
    assert client.indices.exists(index="mistyped") is False
    client.close()


def test_it_is_healthy(node: tuple[stack.Server, OpenSearchSettings]) -> None:
    _, settings = node
    assert health.opensearch(Settings(opensearch=settings)).startswith("green")


def test_every_jar_of_the_lock_has_a_place_of_its_own() -> None:
    locked = jars.locked()
    assert len({jar.path for jar in locked}) == len(locked) > 70
    assert {len(jar.sha256) for jar in locked} == {64}
