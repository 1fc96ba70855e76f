"""Queries that need more than there is, side by side: they go to disk and end, none takes the others down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.local.clickhouse.conftest import Http, endpoint_config, running

MIB = 1 << 20
ROWS = 4_000_000
_ROWS = (
    "select reinterpretAsUUID(toFixedString(toString(number), 16)) as id, number as text "
    f"from numbers({ROWS})"
)
_JOIN = (
    f"select uniqExact(l.id) from ({_ROWS}) as l inner join ({_ROWS}) as r on l.id = r.id where r.text >= 0"
)
QUERIES = {
    "a join": _JOIN,
    "another join": _JOIN.replace("inner", "left"),
    "a third": _JOIN.replace("order", "offer"),
    "an aggregation": f"select sum(n) from (select text, count() as n from ({_ROWS}) group by text)",
}


def test_large_queries_side_by_side_spill(tmp_path: Path) -> None:
    limits = {"max_server_memory_bytes": 512 * MIB, "max_query_memory_bytes": 384 * MIB}
    with running(endpoint_config(tmp_path / "small", **limits)) as process, ThreadPoolExecutor(4) as pool:
        client = Http(process)
        replies = dict(zip(QUERIES, pool.map(client.send, QUERIES.values()), strict=True))
    assert {name: reply.text for name, reply in replies.items()} == dict.fromkeys(QUERIES, f"{ROWS}\n")
