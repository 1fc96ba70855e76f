"""A store that hangs or refuses: its series vanish, the others stay, and no scrape waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bilten_orchestration.observability import watchdog as watchdogs
from bilten_orchestration.observability.api import application
from bilten_orchestration.observability.board import Source
from bilten_orchestration.observability.exporter.clickhouse import ClickHouseInternals
from bilten_orchestration.observability.exporter.object_store import ObjectStoreInternals
from bilten_orchestration.observability.exporter.postgres import PostgresInternals
from bilten_orchestration.observability.exporter.redis import RedisInternals
from bilten_orchestration.observability.owners import Owners
from bilten_orchestration.settings import ServeSettings, Settings
from tests.integration.observability.exporter.gate import Gate, State, gate
from tests.integration.observability.exporter.scraping import scrape
from tests.waiting import until

STORES = ("postgres", "clickhouse", "redis", "object_store")
#: Every store has it, whatever it does.
ALWAYS = {
    "postgres": "bilten_postgres_connections_limit",
    "clickhouse": "bilten_clickhouse_memory_bytes",
    "redis": "bilten_redis_memory_bytes",
    "object_store": "bilten_object_store_bucket_reachable",
}


@contextmanager
def gated(settings: Settings) -> Iterator[tuple[Settings, dict[str, Gate]]]:
    """The stores behind a gate each."""
    with ExitStack() as held:
        endpoint = settings.object_store.endpoint_url
        assert endpoint is not None
        upstream = {
            "postgres": settings.postgres.port,
            "clickhouse": settings.clickhouse.port,
            "redis": settings.redis.port,
            "object_store": int(endpoint.rpartition(":")[2]),
        }
        gates = {name: held.enter_context(gate(port)) for name, port in upstream.items()}
        moved = {
            name: getattr(settings, name).model_copy(update={"port": gates[name].port})
            for name in ("postgres", "clickhouse", "redis")
        }
        moved["object_store"] = settings.object_store.model_copy(
            update={"endpoint_url": f"http://127.0.0.1:{gates['object_store'].port}"}
        )
        yield (
            settings.model_copy(update={**moved, "serve": ServeSettings(metrics_seconds=5)}),
            gates,
        )


def _sources(settings: Settings, _: Owners) -> list[Source]:
    store = settings.object_store
    return [
        PostgresInternals(settings),
        ClickHouseInternals(settings),
        RedisInternals(settings),
        ObjectStoreInternals(settings, store, store.buckets_here),
    ]


@pytest.mark.parametrize(
    ("store", "state"),
    [
        pytest.param(
            store,
            state,
            marks=[] if (store, state) == ("postgres", "hung") else pytest.mark.faults,
        )
        for store in STORES
        for state in get_args(State)
        if state != "open"
    ],
)
def test_series_of_a_store_that_is_away_vanish(settings: Settings, store: str, state: State) -> None:
    settings.home.mkdir(parents=True, exist_ok=True)
    with (
        gated(settings) as (behind, gates),
        watchdogs.opened(behind, threading.Event(), sources=_sources) as running,
    ):
        running.start()
        app = application(running)

        def there() -> set[str]:
            found = {family.name for family in text_string_to_metric_families(scrape(app))}
            return {name for name, family in ALWAYS.items() if family in found}

        until(lambda: there() == {*STORES}, "all of them are told")
        gates[store].turn(state)
        until(lambda: store not in there(), "what is away is not told", seconds=180)
        until(lambda: there() == {*STORES} - {store}, "the others are")
        fastest = min(_seconds(app) for _ in range(3))  # of a loaded machine
        assert fastest < 1
        gates[store].turn("refused")  # what hangs in the middle of an answer is cut off
        gates[store].turn("open")
        until(lambda: there() == {*STORES}, "it is told again", seconds=180)


def _seconds(app: Any) -> float:
    began = time.monotonic()
    scrape(app)
    return time.monotonic() - began
