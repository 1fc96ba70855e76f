"""Models that are built as a whole: views below the marts, dimensions, cohorts, reports, the long form.

`create or replace` and `exchange tables` make each of them appear whole; a kill leaves some new and some
old ones, each consistent, and the next refresh makes the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Problem
from bilten_orchestration.metrics import dbt_call, manifest
from bilten_orchestration.metrics.evidence import Batch
from bilten_orchestration.metrics.locks import LockWatch
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def variables(batch: Batch, build_id: str) -> dict[str, Any]:
    return {"build_id": build_id, "batch": batch.number, "as_of": f"{batch.as_of:%Y-%m-%d %H:%M:%S.%f}"}


def ensure_views(settings: Settings, client: Client, progress: Progress) -> None:
    """Make the views that daily marts read, when one is missing or the project has changed since.

    What state of the project this server's views have is remembered beside the manifest.
    """
    marker = _marker(settings)
    wanted = views_below_marts(manifest.read(manifest.prepare(settings, progress=progress)))
    there = {
        (database, name)
        for database, name in client.query(
            "select database, name from system.tables where engine = 'View'"
        ).result_rows
    }
    if marker.exists() and wanted <= there:
        return
    progress(f"dbt: making {len(wanted)} views below the marts")
    call = dbt_call.call(
        settings, "views", "run", "--select", f"+tag:{manifest.DAILY},config.materialized:view"
    )
    if dbt_call.run(call, progress) != 0:
        broke = [
            f"{node.unique_id.split('.')[2]}: {node.message}"
            for node in dbt_call.results(call.target)
            if node.broke
        ]
        raise dbt_call.broken("dbt could not make the views below the marts", broke, call)
    for old in marker.parent.glob("views-*"):
        old.unlink(missing_ok=True)
    marker.touch()


def views_below_marts(graph: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(database, name) of every view that a daily mart reads, at any depth."""
    nodes = graph["nodes"]
    waiting = [mart.build_id for mart in manifest.marts(graph)]
    seen: set[str] = set()
    while waiting:
        unique_id = waiting.pop()
        for parent in nodes[unique_id]["depends_on"]["nodes"]:
            if parent in nodes and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return {
        (nodes[unique_id]["schema"], nodes[unique_id]["alias"])
        for unique_id in seen
        if nodes[unique_id]["config"].get("materialized") == "view"
    }


def refresh(
    settings: Settings, batch: Batch, progress: Progress, *, watch: LockWatch | None = None
) -> list[Problem]:
    """Build all of them and run their tests, under the locks of the caller.

    Returns a problem per test that failed. Raises TransientError or TerminalError when a model could not be built.
    """
    call = dbt_call.call(
        settings,
        "whole",
        "build",
        "--select",
        f"tag:{manifest.WHOLE}",
        "--exclude-resource-type",
        "unit_test",
        variables=variables(batch, "whole"),
    )
    dbt_call.run(call, progress, watch=watch)
    results = dbt_call.results(call.target)
    broke = [f"{node.unique_id.split('.')[2]}: {node.message}" for node in results if node.broke]
    if broke or not results:
        raise dbt_call.broken("dbt could not build dimensions and reports", broke, call)
    return [
        Problem(
            f"the test {node.unique_id.split('.')[2]} failed",
            expected="0 rows",
            found=f"{node.failures} rows" if node.failures is not None else node.message,
            next=f"its statement is in {call.target / 'compiled'}",
        )
        for node in results
        if node.status == "fail"
    ]


def _marker(settings: Settings) -> Path:
    clickhouse = settings.clickhouse
    server = hashlib.sha256(f"{clickhouse.host}:{clickhouse.port}".encode()).hexdigest()[:8]
    return settings.home / "dbt" / f"views-{manifest.fingerprint()}-{server}"
