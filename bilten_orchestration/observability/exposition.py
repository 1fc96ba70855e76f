"""/metrics: the state of everything for Prometheus, made anew with every scrape from what the board has.

Names: bilten_<thing>_<unit>; labels are of a fixed small set, so that series do not multiply. A promise is
told as 0 or 1 (`bilten_promise_kept`), whose mean over time is the part of time in which it was kept: burn
rates follow from that. What is not known is told as not kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bilten_orchestration.observability import health
from bilten_orchestration.observability.sources.stores import PREFIX

if TYPE_CHECKING:
    from prometheus_client import Metric

    from bilten_orchestration.observability.watchdog import Watchdog

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Collector:
    """Makes metrics when asked; holds none."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily as Gauge

        document = health.health(self._watchdog, details=False)
        up = Gauge("bilten_store_up", "Whether a store answers", labels=["store"])
        known = Gauge("bilten_source_known", "Whether a source was read lately", labels=["source"])
        took = Gauge("bilten_source_read_seconds", "How long the last reading took", labels=["source"])
        for component in document.components:
            if component.name.startswith(PREFIX):
                up.add_metric([component.name.removeprefix(PREFIX)], component.status == "ok")
            known.add_metric([component.name], component.status != "unknown")
            if component.took_seconds is not None:
                took.add_metric([component.name], component.took_seconds)
        yield from (up, known, took)

        kept = Gauge("bilten_promise_kept", "Whether it is kept; 0: no, or nobody knows", labels=["promise"])
        value = Gauge("bilten_promise_value", "What was measured", labels=["promise", "unit"])
        limit = Gauge("bilten_promise_limit", "What is promised", labels=["promise", "unit"])
        for promise in document.promises:
            kept.add_metric([promise.name], promise.status == "kept")
            limit.add_metric([promise.name, promise.unit], promise.limit)
            if promise.value is not None:
                value.add_metric([promise.name, promise.unit], promise.value)
        yield from (kept, value, limit)

        incidents = Gauge("bilten_incidents_open", "Open incidents", labels=["severity"])
        for severity in ("info", "warning", "critical"):
            incidents.add_metric([severity], getattr(document.counts, severity))
        yield incidents
        yield Gauge(
            "bilten_alert_messages_undelivered",
            "Messages that a receiver has not taken",
            value=document.counts.undelivered,
        )
        judged = self._watchdog.judged_at
        if judged is not None:
            yield Gauge(
                "bilten_watchdog_judged_seconds",
                "How long ago the watchdog judged",
                value=max(0.0, time.monotonic() - judged),
            )


def render(collector: Collector) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
