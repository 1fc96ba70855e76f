"""OpenSearch's numbers against what the node says itself."""

from __future__ import annotations

from contextlib import closing

import pytest

from bilten_orchestration.observability.exporter import listing
from bilten_orchestration.observability.exporter import opensearch as exporter
from bilten_orchestration.observability.exporter.opensearch import OpenSearchInternals
from bilten_orchestration.search.definition import ALIAS
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch
from tests.conftest import Servers
from tests.integration.observability.exporter.conftest import series


def test_numbers_of_opensearch(servers: Servers) -> None:
    """Every family that is declared, against what the node says itself."""
    settings = Settings(environment="test", opensearch=servers.opensearch)
    assert ("opensearch_index_documents", ALIAS) not in series(OpenSearchInternals(settings))
    with closing(opensearch.connect(settings.opensearch, timeout_seconds=120)) as client:
        client.indices.create(index="events-metrics", body={"aliases": {ALIAS: {}}})
        for number in range(3):
            client.index(index="events-metrics", body={"n": number}, refresh="true")
        found = series(OpenSearchInternals(settings))
        health = client.cluster.health()
        (node,) = client.nodes.stats(metric="jvm,fs,thread_pool")["nodes"].values()
        client.indices.delete(index="events-metrics")
    assert found["opensearch_cluster_status", health["status"]] == 1
    assert sum(value for key, value in found.items() if key[0] == "opensearch_cluster_status") == 1
    assert found["opensearch_nodes",] == health["number_of_nodes"] == 1
    assert found["opensearch_shards", "active"] == health["active_shards"]
    assert found["opensearch_shards", "unassigned"] == health["unassigned_shards"]
    name = node["name"]
    assert found["opensearch_heap_limit_bytes", name] == node["jvm"]["mem"]["heap_max_in_bytes"]
    assert 0 < found["opensearch_heap_bytes", name] < found["opensearch_heap_limit_bytes", name]
    assert found["opensearch_disk_size_bytes", name] == node["fs"]["total"]["total_in_bytes"]
    assert found["opensearch_disk_free_bytes", name] == pytest.approx(
        node["fs"]["total"]["available_in_bytes"], rel=0.3
    )
    assert (
        found["opensearch_thread_pool_rejected_total", name, "write"]
        == node["thread_pool"]["write"]["rejected"]
    )
    assert found["opensearch_documents_indexed_total", name] >= 3
    assert {f"bilten_{key[0]}" for key in found} == {family.name for family in listing.declared(exporter)}
    assert found["opensearch_index_documents", ALIAS] == 3
    assert found["opensearch_index_size_bytes", ALIAS] > 0
