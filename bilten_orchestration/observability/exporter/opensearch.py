"""OpenSearch: the cluster's health, its nodes, and the index that people search. Calls that Elasticsearch has
too, and of their answers what is used alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.series import Collected, counter, gauge
from bilten_orchestration.search.definition import ALIAS
from bilten_orchestration.settings import Settings

_O = "bilten_opensearch_"
_SECONDS: Final = 10
_POOLS: Final = ("search", "write", "get")
#: Nodes beyond that have no series of their own.
_MOST_NODES: Final = 20

STATUS = gauge(f"{_O}cluster_status", "Whether the cluster has this status", "status")
NODES = gauge(f"{_O}nodes", "Nodes of the cluster")
SHARDS = gauge(f"{_O}shards", "Shards by state", "state")
PENDING = gauge(f"{_O}pending_tasks", "Changes of the cluster's state that wait")
HEAP = gauge(f"{_O}heap_bytes", "Heap in use", "node")
HEAP_LIMIT = gauge(f"{_O}heap_limit_bytes", "Heap that may be used", "node")
COLLECTIONS = counter(f"{_O}garbage_collection_seconds_total", "Time of garbage collections", "node")
QUEUE = gauge(f"{_O}thread_pool_queue", "Requests that wait for a thread", "node", "pool")
REJECTED = counter(f"{_O}thread_pool_rejected_total", "Requests refused by a full queue", "node", "pool")
DISK_BYTES = gauge(f"{_O}disk_size_bytes", "Size of the data disk", "node")
DISK_FREE = gauge(f"{_O}disk_free_bytes", "Room on it that the node may use", "node")
TRIPPED = counter(f"{_O}circuit_breaker_tripped_total", "Requests refused for want of heap", "node")
SEARCHES = counter(f"{_O}searches_total", "Searches of shards", "node")
SEARCH_SECONDS = counter(f"{_O}search_seconds_total", "Time of them", "node")
INDEXED = counter(f"{_O}documents_indexed_total", "Documents indexed", "node")
DOCUMENTS = gauge(f"{_O}index_documents", "Documents behind the alias, without replicas", "alias")
DELETED = gauge(f"{_O}index_deleted_documents", "Deleted ones that no merge has taken yet", "alias")
INDEX_BYTES = gauge(f"{_O}index_size_bytes", "Size of its primary shards", "alias")

_STATES: Final = ("active_primary", "active", "relocating", "initializing", "unassigned")
_NODE_PATH: Final = ",".join(
    f"nodes.*.{path}"
    for path in (
        "name",
        "jvm.mem.heap_used_in_bytes",
        "jvm.mem.heap_max_in_bytes",
        "jvm.gc.collectors.*.collection_time_in_millis",
        *(f"thread_pool.{pool}.{number}" for pool in _POOLS for number in ("queue", "rejected")),
        "fs.total.total_in_bytes",
        "fs.total.available_in_bytes",
        "breakers.*.tripped",
        "indices.search.query_total",
        "indices.search.query_time_in_millis",
        "indices.indexing.index_total",
    )
)


@dataclass(frozen=True, slots=True)
class OpenSearchInternals:
    settings: Settings
    name: str = "metrics/opensearch"
    needs: tuple[str, ...] = ("store/opensearch",)

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.metrics_seconds

    def read(self) -> Reading:
        from opensearchpy.exceptions import NotFoundError

        from bilten_orchestration.stores import opensearch

        asked = self.settings.opensearch
        with (
            closing(opensearch.client(asked, timeout_seconds=_SECONDS, compressed=False)) as client,
            opensearch.translated(asked, "the look at its statistics"),
        ):
            health = client.cluster.health()
            nodes = client.transport.perform_request(
                "GET",
                "/_nodes/stats/jvm,thread_pool,fs,breaker,indices",
                params={"filter_path": _NODE_PATH},
            )
            try:
                index = client.transport.perform_request("GET", f"/{ALIAS}/_stats/docs,store")
            except NotFoundError:  # no index was built yet
                index = None
        found = Collected()
        _cluster(found, health)
        each = sorted(nodes["nodes"].values(), key=lambda node: str(node["name"]))
        for node in each[:_MOST_NODES]:
            _node(found, node)
        if index is not None:
            primaries = index["_all"]["primaries"]
            found.add(DOCUMENTS, primaries["docs"]["count"], ALIAS)
            found.add(DELETED, primaries["docs"]["deleted"], ALIAS)
            found.add(INDEX_BYTES, primaries["store"]["size_in_bytes"], ALIAS)
        return Reading(samples=found.samples)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


def _cluster(found: Collected, health: Mapping[str, Any]) -> None:
    for status in ("green", "yellow", "red"):
        found.add(STATUS, health["status"] == status, status)
    found.add(NODES, health["number_of_nodes"])
    found.add(PENDING, health["number_of_pending_tasks"])
    for state in _STATES:
        shards = "active_primary_shards" if state == "active_primary" else f"{state}_shards"
        found.add(SHARDS, health[shards], state)


def _node(found: Collected, node: Mapping[str, Any]) -> None:
    """A field that this server's version does not have has no series."""
    name = node["name"]
    memory, disk = node["jvm"]["mem"], node["fs"]["total"]
    found.add(HEAP, memory["heap_used_in_bytes"], name)
    found.add(HEAP_LIMIT, memory["heap_max_in_bytes"], name)
    collectors = node["jvm"]["gc"]["collectors"].values()
    found.add(COLLECTIONS, sum(each["collection_time_in_millis"] for each in collectors) / 1000, name)
    found.add(DISK_BYTES, disk.get("total_in_bytes"), name)
    found.add(DISK_FREE, disk.get("available_in_bytes"), name)
    for pool, numbers in node["thread_pool"].items():
        found.add(QUEUE, numbers["queue"], name, pool)
        found.add(REJECTED, numbers["rejected"], name, pool)
    found.add(TRIPPED, sum(each["tripped"] for each in node["breakers"].values()), name)
    search = node["indices"]["search"]
    found.add(SEARCHES, search["query_total"], name)
    found.add(SEARCH_SECONDS, search["query_time_in_millis"] / 1000, name)
    found.add(INDEXED, node["indices"]["indexing"]["index_total"], name)
