"""Models that are built as a whole: views below the marts, dimensions, cohorts, reports, the long form.

`create or replace` and `exchange tables` make each of them appear whole; a kill leaves some new and some
old ones, each consistent, and the next refresh makes the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Problem
from bilten_orchestration.metrics import dbt_call, evidence, manifest
from bilten_orchestration.metrics.dbt_call import DbtCall
from bilten_orchestration.metrics.evidence import Batch
from bilten_orchestration.metrics.locks import LockWatch, build_locks
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@contextmanager
def opened(settings: Settings, progress: Progress) -> Iterator[tuple[Batch, LockWatch]]:
    """The locks and the batch under which models are built as a whole, for who runs dbt himself.

    Raises Refused, LockHeld, StoreUnavailable.
    """
    with translated("the build"), ExitStack() as stack:
        connection = stack.enter_context(
            postgres.connect(settings.postgres, "etl", application_name="bilten build whole", autocommit=True)
        )
        client = clickhouse.connect(settings.clickhouse)
        stack.callback(client.close)
        watch = stack.enter_context(build_locks(connection, settings, progress))
        yield evidence.usable_batch(connection, client), watch


def call(settings: Settings, batch: Batch, name: str, select: Sequence[str]) -> DbtCall:
    """dbt for these models. Tests run once all they read is there (`buildable`), whatever the selection."""
    return dbt_call.call(
        settings,
        name,
        "build",
        "--select",
        *select,
        "--exclude",  # what judges daily marts belongs to their builds
        "config.meta.gate:true",
        "test_name:no_day_refused",
        "--indirect-selection",
        "buildable",
        "--exclude-resource-type",
        "unit_test",
        variables={
            "build_id": "whole",
            "batch": batch.number,
            "as_of": f"{batch.as_of:%Y-%m-%d %H:%M:%S.%f}",
            "settled_until": f"{batch.settled_until:%Y-%m-%d %H:%M:%S.%f}",
        },
        parsed=manifest.parsed(settings),
    )


def views_to_make(settings: Settings, client: Client, graph: Mapping[str, Any]) -> list[str]:
    """Names of the views that daily marts read, when one is missing or the project has changed; else none.

    What state of the project this server's views have is remembered beside the manifest (`views_made`).
    """
    wanted = views_below_marts(graph)
    there = {
        (database, name)
        for database, name in client.query(
            "select database, name from system.tables where engine = 'View'"
        ).result_rows
    }
    return [] if _marker(settings).exists() and wanted.keys() <= there else sorted(wanted.values())


def views_made(settings: Settings) -> None:
    """Remember that the views have the project's present state."""
    marker = _marker(settings)
    for old in marker.parent.glob("views-*"):
        old.unlink(missing_ok=True)
    marker.touch()


def views_below_marts(graph: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Views that daily marts and their gates read, at any depth: (database, table) to model name."""
    nodes = graph["nodes"]
    gates = {gate for mart in manifest.marts(graph) for gate in mart.gates}
    waiting = [mart.build_id for mart in manifest.marts(graph)]
    waiting += [unique_id for unique_id, node in nodes.items() if node["name"] in gates]
    seen: set[str] = set()
    while waiting:
        for parent in nodes[waiting.pop()]["depends_on"]["nodes"]:
            if parent in nodes and parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return {
        (node["schema"], node["alias"]): node["name"]
        for node in (nodes[unique_id] for unique_id in seen)
        if node["config"].get("materialized") == "view"
    }


def refresh(
    settings: Settings, batch: Batch, progress: Progress, *, watch: LockWatch | None = None
) -> list[Problem]:
    """Build all of them and run their tests, under the locks of the caller.

    Returns a problem per test that failed. Raises TransientError or TerminalError when a model could
    not be built.
    """
    dbt = call(settings, batch, "whole", [f"tag:{manifest.WHOLE}"])
    dbt_call.run(dbt, progress, watch=watch)
    return failed_tests(dbt)


def failed_tests(dbt: DbtCall, said: Sequence[str] = ()) -> list[Problem]:
    """A problem per test that failed in a call that has ended; `said` are errors that dbt logged.

    Raises TransientError or TerminalError when a model could not be built.
    """
    results = dbt_call.results(dbt.target)
    broke = [f"{node.unique_id.split('.')[2]}: {node.message}" for node in results if node.broke]
    if broke or not results:
        raise dbt_call.broken("dbt could not build dimensions and reports", broke or said, dbt)
    return [
        Problem(
            f"the test {node.unique_id.split('.')[2]} failed",
            expected="0 rows",
            found=f"{node.failures} rows" if node.failures is not None else node.message,
            next=f"its statement is in {dbt.target / 'compiled'}",
        )
        for node in results
        if node.status == "fail"
    ]


def _marker(settings: Settings) -> Path:
    clickhouse = settings.clickhouse
    server = hashlib.sha256(f"{clickhouse.host}:{clickhouse.port}".encode()).hexdigest()[:8]
    return settings.home / "dbt" / f"views-{manifest.fingerprint()}-{server}"
