"""The watchdog's own series: what it reads, how every promise stands, open incidents.

A promise is told as gauges (how it stands now) and as the two counters of tally.py.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bilten_orchestration.observability import health
from bilten_orchestration.observability.finding import SEVERITIES
from bilten_orchestration.observability.series import Collected, Sample, counter, gauge
from bilten_orchestration.observability.sources.stores import PREFIX

if TYPE_CHECKING:
    from bilten_orchestration.observability.watchdog import Watchdog

STORE_UP = gauge("bilten_store_up", "Whether a store answers", "store")
SOURCE_KNOWN = gauge("bilten_source_known", "Whether a source was read lately", "source")
SOURCE_SECONDS = gauge("bilten_source_read_duration_seconds", "How long the last reading took", "source")
SOURCE_AT = gauge("bilten_source_read_timestamp_seconds", "When it was last read", "source")
KEPT = gauge("bilten_promise_kept", "Whether a promise is kept; 0: no, or nobody knows", "promise")
KNOWN = gauge("bilten_promise_known", "Whether anybody knows; what was never due is not", "promise")
VALUE = gauge("bilten_promise_value", "What was measured, where it is known", "promise", "unit")
LIMIT = gauge("bilten_promise_limit", "What is promised", "promise", "unit")
JUDGED = counter("bilten_promise_judgements_total", "Times a promise was judged", "promise")
JUDGED_KEPT = counter("bilten_promise_judgements_kept_total", "Times it was found to be kept", "promise")
INCIDENTS = gauge("bilten_incidents_open", "Open incidents", "severity")
UNDELIVERED = gauge("bilten_alert_messages_undelivered", "Messages that a receiver has not taken")
JUDGEMENT_AGE = gauge("bilten_watchdog_judgement_age_seconds", "How long ago the watchdog judged")
STARTED = gauge("bilten_watchdog_start_timestamp_seconds", "When the watchdog started")


def samples(watchdog: Watchdog) -> tuple[Sample, ...]:
    document = health.health(watchdog, details=False)
    found = Collected()
    for component in document.components:
        if component.name.startswith(PREFIX):
            found.add(STORE_UP, component.status == "ok", component.name.removeprefix(PREFIX))
        found.add(SOURCE_KNOWN, component.status != "unknown", component.name)
        found.add(SOURCE_SECONDS, component.took_seconds, component.name)
        if component.read_at is not None:
            found.add(SOURCE_AT, component.read_at.timestamp(), component.name)
    for promise in document.promises:
        known = promise.status in ("kept", "missed")
        found.add(KEPT, promise.status == "kept", promise.name)
        found.add(KNOWN, known, promise.name)
        found.add(LIMIT, promise.limit, promise.name, promise.unit)
        if known:
            found.add(VALUE, promise.value, promise.name, promise.unit)
    for name, (judged, kept) in watchdog.tally.counts.items():
        found.add(JUDGED, judged, name)
        found.add(JUDGED_KEPT, kept, name)
    for severity in SEVERITIES:
        found.add(INCIDENTS, getattr(document.counts, severity), severity)
    found.add(UNDELIVERED, document.counts.undelivered)
    judged_at = watchdog.judged_at
    if judged_at is not None:
        found.add(JUDGEMENT_AGE, max(0.0, time.monotonic() - judged_at))
    found.add(STARTED, watchdog.started_at.timestamp())
    return found.samples
