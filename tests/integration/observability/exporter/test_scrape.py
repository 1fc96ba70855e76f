"""What a scrape of real servers has: every family that is declared, and all that rules and dashboard read."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.local.dagster_services import storage_url
from bilten_orchestration.observability import watchdog as watchdogs
from bilten_orchestration.observability.api import application
from bilten_orchestration.observability.exporter import listing
from bilten_orchestration.observability.exporter.opensearch import OpenSearchInternals
from bilten_orchestration.observability.queries.collect import collect
from bilten_orchestration.observability.watchdog import Watchdog
from bilten_orchestration.search.definition import ALIAS
from bilten_orchestration.settings import QuerySettings, ServeSettings, Settings
from bilten_orchestration.stores import opensearch, postgres
from tests import stack
from tests.conftest import Servers
from tests.integration.observability.exporter.conftest import series
from tests.integration.observability.exporter.test_postgres import receiving
from tests.unit.observability.exporter.promql import names
from tests.unit.observability.exporter.test_deploy import expressions, promtool, recorded
from tests.waiting import until


def scrape(application: Any) -> str:
    """GET /metrics, without a socket."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/metrics",
        "raw_path": b"/metrics",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 1),
    }
    asyncio.run(application(scope, receive, send))
    assert sent[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in sent).decode()


def exported(text: str) -> set[str]:
    """Names of series, as a query reads them."""
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


@dg.op
def nothing() -> None:
    pass


@dg.job
def a_job() -> None:
    nothing()


@pytest.fixture
def whole(settings: Settings, servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Every store, Dagster's tables with a run in them, a receiver of WAL, an index, statistics."""
    dagster_database = f"dagster_{next(servers.numbers)}"
    with stack.postgres.superuser(servers.postgres.cluster) as connection:
        connection.execute(f"create database {dagster_database} owner bilten_dagster")
    value = settings.model_copy(
        update={
            "home": tmp_path,
            "opensearch": servers.opensearch,
            "postgres": settings.postgres.model_copy(update={"dagster_database": dagster_database}),
            "serve": ServeSettings(metrics_seconds=5, metrics_sizes_seconds=30),
            "queries": QuerySettings(slow_milliseconds=1),
        }
    )
    keys.ensure(key_file(value))
    (tmp_path / "dagster.yaml").write_text(
        json.dumps(
            {"storage": {"postgres": {"postgres_url": storage_url(value)}}, "telemetry": {"enabled": False}}
        )
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        a_job.execute_in_process(instance=instance)
        from dagster._daemon.types import DaemonHeartbeat

        instance.add_daemon_heartbeat(DaemonHeartbeat(1.0, "SENSOR", "id"))
    with closing(opensearch.connect(value.opensearch, timeout_seconds=120)) as client:
        client.indices.create(index="events-metrics", body={"aliases": {ALIAS: {}}})
        for number in range(3):
            client.index(index="events-metrics", body={"n": number}, refresh="true")
    try:
        with ExitStack() as held:
            owner = held.enter_context(postgres.connect(value.postgres, autocommit=True))
            owner.execute("analyze")
            for _ in range(2):
                collect(value)
            owner.execute("select pg_create_physical_replication_slot('scraped', true)")
            held.callback(owner.execute, "select pg_drop_replication_slot('scraped')")
            held.callback(until, lambda: not _active(owner, "scraped"), "nobody uses the slot")
            held.enter_context(receiving(value, "scraped"))
            yield value
    finally:
        with closing(opensearch.connect(value.opensearch, timeout_seconds=120)) as client:
            client.indices.delete(index="events-metrics")
        with stack.postgres.superuser(servers.postgres.cluster) as connection:
            connection.execute(f"drop database {dagster_database} with (force)")


def _active(owner: postgres.Connection, slot: str) -> bool:
    row = owner.execute("select active from pg_replication_slots where slot_name = %s", (slot,)).fetchone()
    return row is not None and bool(row[0])


def test_every_series_that_is_declared_or_used_is_in_a_scrape(whole: Settings) -> None:
    declared = {family.name for family in listing.families()}
    with watchdogs.opened(whole, threading.Event()) as running:
        running.start()
        app = application(running)

        def missing() -> set[str]:
            return declared - exported(scrape(app))

        try:
            until(lambda: not missing(), "every family", seconds=300)
        except AssertionError:
            said = {name: entry.problem for name, entry in running.entries().items() if entry.problem}
            pytest.fail(f"missing: {sorted(missing())}; {said}")
        text = scrape(app)
        used = set().union(*(names(each) for each in expressions())) - set(recorded())
        assert used - exported(text) == set()
        told = _opensearch(whole)
        _well_formed(text)
        if (tool := promtool()) is not None:
            lint = subprocess.run(
                [tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")
    assert told["opensearch_index_documents", ALIAS] == 3


def _well_formed(text: str) -> None:
    families = list(text_string_to_metric_families(text))
    seen = set()
    for family in families:
        assert family.documentation and family.type in ("gauge", "counter"), family.name
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, f"{key} is told twice"
            assert math.isfinite(sample.value), key
            seen.add(key)
    assert len(seen) < 2000
    lines = text.splitlines()
    assert sum(line.startswith("# TYPE") for line in lines) == sum(
        line.startswith("# HELP") for line in lines
    ) == len(families)  # fmt: skip


def _opensearch(settings: Settings) -> dict[tuple[str, ...], float]:
    """Its numbers against what it says itself."""
    found = series(OpenSearchInternals(settings))
    with closing(opensearch.connect(settings.opensearch)) as client:
        health = client.cluster.health()
        (node,) = client.nodes.stats(metric="jvm,fs,thread_pool")["nodes"].values()
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
    return found


@pytest.mark.faults
def test_10_000_scrapes_of_all_series_take_no_memory(whole: Settings) -> None:
    with watchdogs.opened(whole, threading.Event()) as running:
        running.start()
        app = application(running)
        until(lambda: len(exported(scrape(app))) > 140, "most families", seconds=300)
        for _ in range(500):
            scrape(app)
        before = psutil.Process().memory_info().rss
        for _ in range(10_000):
            scrape(app)
        grown = psutil.Process().memory_info().rss - before
        _judged(running)
    assert grown < 8 << 20, f"{grown:,} bytes more"


def _judged(running: Watchdog) -> None:
    assert running.alive
    assert running.tally.counts
