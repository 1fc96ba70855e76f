"""dbt's graph as people see it: a mart and the build that is judged before it are one node.

`fct_x__build` exists for the time of a run and is read by nobody, so the asset graph shows `fct_x` alone,
with the sources of its build as its own and the gates of its build as its checks. The table of a run that is
no view's either (int_moved_tickets__build) is a step of what reads it, which has its sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

from bilten_orchestration.metrics.manifest import BUILD_SUFFIX


def merged(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the manifest without builds; what they read and what judges them belongs to their marts.

    Unit tests are left out: they are run by `make test`, not by schedules.
    """
    builds = {
        unique_id: unique_id.removesuffix(BUILD_SUFFIX)
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model" and node["name"].endswith(BUILD_SUFFIX)
    }
    mart_of = {build: mart for build, mart in builds.items() if mart in manifest["nodes"]}

    def read_by(unique_id: str) -> list[str]:
        found: list[str] = []
        for parent in manifest["nodes"][unique_id].get("depends_on", {}).get("nodes", []):
            found += read_by(parent) if parent in builds and parent not in mart_of else [parent]
        return found

    nodes: dict[str, Any] = {}
    for unique_id, node in manifest["nodes"].items():
        if unique_id in builds:
            continue
        parents = read_by(unique_id)
        for build, mart in mart_of.items():
            if mart == unique_id:
                parents += read_by(build)
        changed = {
            **node,
            "depends_on": {
                **node.get("depends_on", {}),
                "nodes": [
                    parent
                    for parent in dict.fromkeys(mart_of.get(parent, parent) for parent in parents)
                    if parent != unique_id
                ],
            },
        }
        if node.get("attached_node") in mart_of:
            changed["attached_node"] = mart_of[node["attached_node"]]
        nodes[unique_id] = changed
    parents_of = {unique_id: node["depends_on"]["nodes"] for unique_id, node in nodes.items()}
    for kind in ("exposures", "metrics", "saved_queries", "semantic_models"):
        for unique_id, node in manifest.get(kind, {}).items():
            parents_of[unique_id] = [
                mart_of.get(parent, parent) for parent in node.get("depends_on", {}).get("nodes", [])
            ]
    children_of: dict[str, list[str]] = {unique_id: [] for unique_id in (*parents_of, *manifest["sources"])}
    for unique_id, parents in parents_of.items():
        for parent in parents:
            children_of.setdefault(parent, []).append(unique_id)
    return {
        **manifest,
        "nodes": nodes,
        "unit_tests": {},
        "parent_map": {**{source: [] for source in manifest["sources"]}, **parents_of},
        "child_map": children_of,
    }


def ranks(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Place of each node in an order in which parents come before children.

    Dagster refuses results that come in another one. dbt's own is not enough: definitions may have been
    loaded from an older state of the project than the one that dbt runs.
    """
    order = TopologicalSorter(manifest["parent_map"]).static_order()
    return {unique_id: place for place, unique_id in enumerate(order)}
