"""/metrics: everything that is known now, in the text format of Prometheus.

Made anew with every scrape from what is in memory; no server is asked. Samples of servers (exporter/) are
told while their reading is the newest attempt and young: see docs/adr/0038.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bilten_orchestration.observability.exporter import platform
from bilten_orchestration.observability.series import Family, Sample

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

    from bilten_orchestration.observability.board import Entry
    from bilten_orchestration.observability.watchdog import Watchdog

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Collector:
    """Makes metrics when asked; holds none."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

    def collect(self) -> Iterator[Metric]:
        yield from metrics(
            [*platform.samples(self._watchdog), *of_servers(self._watchdog.entries().values())]
        )


def of_servers(entries: Iterable[Entry]) -> Iterator[Sample]:
    """Samples whose reading was the newest attempt, and is not old."""
    for entry in entries:
        if entry.fresh and entry.problem is None and entry.reading is not None:
            yield from entry.reading.samples


def metrics(samples: Iterable[Sample]) -> Iterator[Metric]:
    """By family, as the library writes them."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    grouped: dict[Family, list[Sample]] = defaultdict(list)
    for sample in samples:
        grouped[sample.family].append(sample)
    for family, found in grouped.items():
        make = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
        metric = make(family.name, family.help, labels=family.labels)
        for sample in found:
            metric.add_metric(sample.labels, sample.value)
        yield metric


def registry(watchdog: Watchdog) -> CollectorRegistry:
    """One for the life of the server; nothing in it grows. With what this process itself takes."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    found = CollectorRegistry(auto_describe=False)
    found.register(Collector(watchdog))
    ProcessCollector(registry=found)
    return found


def render(registry: CollectorRegistry) -> bytes:
    from prometheus_client import generate_latest

    return generate_latest(registry)
