"""The state of everything as the board has it, as documents. Asks nobody: it answers while stores hang."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from bilten_orchestration.observability.board import Entry
from bilten_orchestration.observability.documents import (
    Component,
    Counts,
    Health,
    IncidentState,
    Live,
    PromiseState,
    Ready,
    Standing,
    Status,
)
from bilten_orchestration.observability.finding import Promise
from bilten_orchestration.observability.sources.stores import PREFIX, WEBSERVER
from bilten_orchestration.observability.watchdog import Watchdog

_NO_STORE = f"{PREFIX}{WEBSERVER}"


def live(watchdog: Watchdog) -> Live:
    judged = watchdog.judged_at
    # it is given time to judge first
    starting = judged is None and (datetime.now(UTC) - watchdog.started_at).total_seconds() < 60
    return Live(
        status="pass" if watchdog.alive or starting else "fail",
        open_incidents=len(watchdog.open),
        judged_seconds_ago=None if judged is None else round(time.monotonic() - judged, 1),
    )


def ready(watchdog: Watchdog) -> Ready:
    waiting = tuple(
        name.removeprefix(PREFIX)
        for name, entry in sorted(watchdog.entries().items())
        if name.startswith(PREFIX) and name != _NO_STORE and _status(entry) != "ok"
    )
    return Ready(status="fail" if waiting else "pass", waiting_for=waiting)


def health(watchdog: Watchdog, *, details: bool) -> Health:
    """`details`: for who has the token."""
    entries = watchdog.entries()
    components = tuple(_component(watchdog, entry, details) for _, entry in sorted(entries.items()))
    promises = tuple(
        _promise(watchdog, promise, entry, details)
        for entry in entries.values()
        for promise in (() if entry.reading is None else entry.reading.promises)
    )
    counts = Counts(
        **{
            severity: sum(incident.severity == severity for incident in watchdog.open)
            for severity in ("info", "warning", "critical")
        },
        undelivered=watchdog.undelivered,
        not_yet=sum(promise.status == "not_yet" for promise in promises),
    )
    return Health(
        status=_whole(watchdog, components, promises, counts),
        at=datetime.now(UTC),
        environment=watchdog.settings.environment,
        components=components,
        promises=tuple(sorted(promises, key=lambda each: each.name)),
        counts=counts,
        incidents=tuple(
            IncidentState(
                key=each.key,
                kind=each.kind,
                severity=each.severity,
                what=each.problem.what,
                expected=each.problem.expected,
                found=each.problem.found,
                next=each.problem.next,
                owner=each.owner,
                since=each.since,
                link=each.link,
            )
            for each in watchdog.open
        )
        if details
        else None,
    )


def _whole(
    watchdog: Watchdog,
    components: tuple[Component, ...],
    promises: tuple[PromiseState, ...],
    counts: Counts,
) -> Status:
    down = [each.name for each in components if each.status == "down" and each.name != _NO_STORE]
    if not watchdog.alive or counts.critical or down:
        return "fail"
    good = all(each.status == "ok" for each in components) and all(
        each.status in ("kept", "not_yet") for each in promises
    )
    return "pass" if good and not (counts.warning or counts.info or counts.undelivered) else "warn"


def _status(entry: Entry) -> str:
    if not entry.fresh or entry.reading is None:
        return "unknown"
    if any(finding.kind == "store-down" for finding in entry.reading.findings):
        return "down"
    return "trouble" if entry.reading.findings else "ok"


def _component(watchdog: Watchdog, entry: Entry, details: bool) -> Component:
    detail = None
    if details:
        reading = entry.reading
        said = (
            f"{entry.problem.what}: {entry.problem.found}"
            if entry.problem is not None
            else "not read yet"
            if reading is None
            else reading.detail or "; ".join(finding.problem.what for finding in reading.findings)
        )
        detail = watchdog.secrecy.clean(said)
    return Component.model_validate(
        {
            "name": entry.source,
            "status": _status(entry),
            "detail": detail,
            "read_at": entry.read_at,
            "took_seconds": None if entry.took_seconds is None else round(entry.took_seconds, 3),
        }
    )


def _promise(watchdog: Watchdog, promise: Promise, entry: Entry, details: bool) -> PromiseState:
    return PromiseState(
        name=promise.name,
        status=_standing(promise, entry.fresh),
        value=None if promise.value is None else round(promise.value, 3),
        limit=promise.limit,
        unit=promise.unit,
        least=promise.least,
        detail=watchdog.secrecy.clean(promise.detail) if details else None,
    )


def _standing(promise: Promise, fresh: bool) -> Standing:
    if not fresh:
        return "unknown"
    if promise.not_due:
        return "not_yet"
    return "unknown" if promise.kept is None else "kept" if promise.kept else "missed"
