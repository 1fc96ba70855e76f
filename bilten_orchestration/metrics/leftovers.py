"""What dead builds leave in ClickHouse: build tables, and statements that the server still runs.

To be called under the lock `build` alone: then every build table belongs to a dead build.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bilten_orchestration.errors import TransientError
from bilten_orchestration.metrics.manifest import BUILD_SUFFIX
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

WAIT_SECONDS = 120.0


def drop_build_tables(client: Client) -> list[str]:
    """Drop all of them (also what dbt had half made, __dbt_tmp and __dbt_backup); returns their names."""
    rows = client.query(
        "select database, name from system.tables"
        " where database in ('intermediate', 'marts') and position(name, {suffix:String}) > 0 order by all",
        {"suffix": f"{BUILD_SUFFIX}_"},
    ).result_rows
    for database, name in rows:
        # without SYNC, which waits for every disk of the server: for ever where the store of backups is away
        client.command(f"drop table if exists {database}.`{name}`")
    return [name for _, name in rows]


def await_statements(
    client: Client, build_ids: Sequence[str], progress: Progress, *, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until the server runs no statement of these builds: their tables carry the id in their names.

    Raises TransientError after `seconds`, with the statements.
    """
    if not build_ids:
        return
    deadline = time.monotonic() + seconds
    told = False
    while running := _running(client, build_ids):
        if time.monotonic() >= deadline:
            raise TransientError(
                "the server still runs statements of a build that was killed",
                expected=f"their end within {seconds:g} s",
                found="; ".join(running),
                next="wait, or end them: kill query where query_id = '...'",
            )
        if not told:
            progress(f"waiting for {len(running)} statements of a killed build")
            told = True
        time.sleep(0.5)


def _running(client: Client, build_ids: Sequence[str]) -> list[str]:
    rows = client.query(
        """
        select query_id, elapsed, substring(query, 1, 80) from system.processes
        where multiSearchAny(query, {names:Array(String)}) and query not like '%system.processes%'
        """,
        {"names": [f"{BUILD_SUFFIX}_{build_id}" for build_id in build_ids]},
    ).result_rows
    return [f"{query_id} for {elapsed:.0f} s: {text}" for query_id, elapsed, text in rows]
