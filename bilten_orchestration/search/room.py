"""Whether the disks of OpenSearch have room for one more index, with what they keep free left free.

A node above its low watermark (85 % full, unless it was told otherwise) gets no new shards; at the flood
stage the server blocks writes to every index that it holds, the one that serves too. So an index that nobody
needs is only made where every shard of it fits below the low watermark.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bilten_orchestration.errors import Refused
from bilten_orchestration.search.definition import SHARDS

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

_LOW: Final = "cluster.routing.allocation.disk.watermark.low"
_UNITS: Final = {"b": 0, "kb": 10, "mb": 20, "gb": 30, "tb": 40, "pb": 50}


def refuse_without_room(client: OpenSearch, needed_bytes: int, what: str) -> None:
    """Raises Refused where `what`, without replicas, would not fit."""
    rooms = [
        max(0, disk["available_in_bytes"] - kept_free(watermark, disk["total_in_bytes"]))
        for watermark in [_watermark(client)]
        for disk in _disks(client)
    ]
    if not fits(rooms, SHARDS, -(-needed_bytes // SHARDS)):
        raise Refused(
            f"OpenSearch has too little disk for {what}",
            expected=f"{needed_bytes >> 20:,} MiB in {SHARDS} shards, below the low watermark of its nodes",
            found=f"{', '.join(f'{room >> 20:,}' for room in rooms) or 'no'} MiB on its data nodes",
            next="make room on its disks; indices that are kept for a rollback: bilten search prune",
        )


def fits(rooms: Sequence[int], shards: int, each_bytes: int) -> bool:
    """Whether so many shards fit, each on the node that has most room left. No I/O."""
    left = list(rooms)
    for _ in range(shards):
        if not left or max(left) < each_bytes:
            return False
        left[left.index(max(left))] -= each_bytes
    return True


def kept_free(watermark: str, total_bytes: int) -> int:
    """Bytes of a disk that a watermark keeps free: it says how much may be used ("85%", "0.85"), or how much
    has to be free ("50gb"). No I/O. Raises Refused for what is neither."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(%|[kmgtp]?b|)", watermark.strip().lower())
    if found is None:
        raise Refused(
            "OpenSearch has a watermark that cannot be read",
            expected="a percentage, a ratio, or bytes with their unit",
            found=f"{_LOW} = {watermark}",
            next="correct it in the cluster's settings",
        )
    number, unit = float(found[1]), found[2]
    if unit in _UNITS:
        return int(number * (1 << _UNITS[unit]))
    return int(total_bytes * (1 - (number / 100 if unit else number)))


def _watermark(client: OpenSearch) -> str:
    """As the cluster was told it last; for good, or until its next start."""
    found = client.cluster.get_settings(params={"include_defaults": "true", "flat_settings": "true"})
    return str(
        next(found[kind][_LOW] for kind in ("transient", "persistent", "defaults") if _LOW in found[kind])
    )


def _disks(client: OpenSearch) -> list[dict[str, Any]]:
    """Of nodes that hold data."""
    nodes = client.nodes.stats(metric="fs")["nodes"].values()
    return [node["fs"]["total"] for node in nodes if any(role.startswith("data") for role in node["roles"])]
