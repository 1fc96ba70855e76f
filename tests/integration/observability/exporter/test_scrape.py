"""What a scrape of real servers has: every family that is declared, and all that rules and dashboard read."""

from __future__ import annotations

import json
import math
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.local.dagster_services import storage_url
from bilten_orchestration.observability import watchdog as watchdogs
from bilten_orchestration.observability.api import application
from bilten_orchestration.observability.exporter import listing, opensearch
from bilten_orchestration.observability.queries.collect import collect
from bilten_orchestration.observability.watchdog import Watchdog
from bilten_orchestration.settings import QuerySettings, ServeSettings, Settings
from bilten_orchestration.stores import postgres
from tests import stack
from tests.conftest import Servers
from tests.integration.observability.exporter.scraping import exported, scrape
from tests.integration.observability.exporter.test_postgres import receiving
from tests.unit.observability.exporter.promql import names
from tests.unit.observability.exporter.test_deploy import expressions, promtool, recorded
from tests.waiting import until

#: test_opensearch.py has these: a node takes as long to start as all the others.
OF_OPENSEARCH = {family.name for family in listing.declared(opensearch)}


@dg.op
def nothing() -> None:
    pass


@dg.job
def a_job() -> None:
    nothing()


@pytest.fixture
def whole(settings: Settings, servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Every store but OpenSearch, Dagster's tables with a run in them, a receiver of WAL, statistics."""
    dagster_database = f"dagster_{next(servers.numbers)}"
    with stack.postgres.superuser(servers.postgres.cluster) as connection:
        connection.execute(f"create database {dagster_database} owner bilten_dagster")
    value = settings.model_copy(
        update={
            "home": tmp_path,
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
        with stack.postgres.superuser(servers.postgres.cluster) as connection:
            connection.execute(f"drop database {dagster_database} with (force)")


def _active(owner: postgres.Connection, slot: str) -> bool:
    row = owner.execute("select active from pg_replication_slots where slot_name = %s", (slot,)).fetchone()
    return row is not None and bool(row[0])


def test_every_series_that_is_declared_or_used_is_in_a_scrape(whole: Settings) -> None:
    declared = {family.name for family in listing.families()} - OF_OPENSEARCH
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
        used = set().union(*(names(each) for each in expressions())) - set(recorded()) - OF_OPENSEARCH
        assert used - exported(text) == set()
        _well_formed(text)
        if (tool := promtool()) is not None:
            lint = subprocess.run(
                [tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False
            )
            assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


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


@pytest.mark.faults
def test_10_000_scrapes_of_all_series_take_no_memory(whole: Settings) -> None:
    with watchdogs.opened(whole, threading.Event()) as running:
        running.start()
        app = application(running)
        until(lambda: len(exported(scrape(app))) > 120, "most families", seconds=300)
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
