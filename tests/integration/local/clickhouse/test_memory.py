"""Queries that need more than there is, side by side: they go to disk and end, none takes the others down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.local.clickhouse.conftest import Http, endpoint_config, running

MIB = 1 << 20
AT_ONCE = 3
ROUNDS = 3  # from the second on the engine knows how large the tables will be, and makes them so
ROWS = 4_000_000
_ROWS = f"select reinterpretAsUUID(toFixedString(toString(number), 16)) as id, number from numbers({ROWS})"
JOIN = f"select countIf(l.number = r.number) from ({_ROWS}) as l left join ({_ROWS}) as r on l.id = r.id"


def test_large_joins_side_by_side_spill(tmp_path: Path) -> None:
    limits = {"max_server_memory_bytes": 512 * MIB, "max_query_memory_bytes": 384 * MIB}
    with (
        running(endpoint_config(tmp_path / "small", **limits)) as process,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        replies = [reply for _ in range(ROUNDS) for reply in pool.map(Http(process).send, [JOIN] * AT_ONCE)]
    assert [reply.text for reply in replies] == [f"{ROWS}\n"] * AT_ONCE * ROUNDS
