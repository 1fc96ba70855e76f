"""Findings become incidents. Rules alone: no clock, no store, no disk.

Of one key at most one incident is open. What was measured is suspected first, and opens once it has lasted;
what was recorded opens at once. It worsens when its weight rises above the highest that was told, and
recovers when it was not found for a while. A source that could not be read says nothing of its incidents:
they stay as they are, for missing evidence is no recovery.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.finding import SEVERITIES, Finding, Kind, Severity

Event = Literal["opened", "worsened", "recovered"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How long what is measured must last before it opens, and be away before it has recovered. Of an
    incident that goes on only new numbers are kept no more often than every `refresh`."""

    open_after: timedelta
    recover_after: timedelta
    refresh: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Incident:
    """`severity` and `step` are the highest there were; `problem` is as found last. `opened_at` is None while
    it is suspected alone. `missed_at` is since when it was not found any more."""

    id: str
    key: str
    source: str
    kind: Kind
    severity: Severity
    step: int
    problem: Problem
    owner: str
    link: str
    since: datetime
    first_seen_at: datetime
    seen_at: datetime
    opened_at: datetime | None = None
    worsened_at: datetime | None = None
    missed_at: datetime | None = None
    resolved_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None and self.resolved_at is None

    @property
    def weight(self) -> tuple[int, int]:
        return SEVERITIES.index(self.severity), self.step


@dataclass(frozen=True, slots=True)
class Notice:
    """Somebody is to be told this about an incident, as it was then."""

    event: Event
    incident: Incident


@dataclass(frozen=True, slots=True)
class Outcome:
    """`changed` are to be kept, by id; `forgotten` were suspected alone and are no more."""

    changed: tuple[Incident, ...]
    forgotten: tuple[Incident, ...]
    notices: tuple[Notice, ...]


def judge(
    known: Mapping[str, Incident],
    read: Mapping[str, Iterable[Finding]],
    *,
    now: datetime,
    rules: Rules,
    owner: str,
) -> Outcome:
    """`known`: suspected and open incidents by key. `read`: the findings of every source that could be read,
    by its name; a source that is not in it says nothing. `owner`: of what has none."""
    found: dict[str, tuple[str, Finding]] = {}
    for source, findings in read.items():
        for finding in findings:
            before = found.get(finding.key)
            if before is None or finding.weight > before[1].weight:
                found[finding.key] = (source, finding)
    changed: list[Incident] = []
    forgotten: list[Incident] = []
    notices: list[Notice] = []
    for key, (source, finding) in found.items():
        incident = known.get(key)
        if incident is None:
            incident = _suspected(source, finding, now, owner)
            event: Event | None = None
        else:
            incident, event = _seen(incident, source, finding, now)
        if incident.opened_at is None and now - incident.first_seen_at >= _patience(finding, rules):
            incident, event = replace(incident, opened_at=now), "opened"
        if event is not None:
            notices.append(Notice(event, incident))
        if not _only_refreshed(known.get(key), incident, rules):
            changed.append(incident)
    for key, incident in known.items():
        if key in found or incident.source not in read:
            continue
        if incident.opened_at is None:
            forgotten.append(incident)
            continue
        incident = replace(incident, missed_at=incident.missed_at or now)
        assert incident.missed_at is not None  # noqa: S101
        if now - incident.missed_at >= rules.recover_after:
            incident = replace(incident, resolved_at=now)
            notices.append(Notice("recovered", incident))
        if incident != known[key]:
            changed.append(incident)
    return Outcome(tuple(changed), tuple(forgotten), tuple(notices))


def _only_refreshed(before: Incident | None, now: Incident, rules: Rules) -> bool:
    """Whether nothing but numbers changed, and not long ago: each write goes to disk and to PostgreSQL."""
    return (
        before is not None
        and now.seen_at - before.seen_at < rules.refresh
        and replace(now, seen_at=before.seen_at, problem=before.problem, link=before.link) == before
    )


def _patience(finding: Finding, rules: Rules) -> timedelta:
    return timedelta() if finding.lasting else rules.open_after


def _suspected(source: str, finding: Finding, now: datetime, owner: str) -> Incident:
    return Incident(
        id=str(uuid.uuid4()),
        key=finding.key,
        source=source,
        kind=finding.kind,
        severity=finding.severity,
        step=finding.step,
        problem=finding.problem,
        owner=finding.owner or owner,
        link=finding.link,
        since=finding.since or now,
        first_seen_at=now,
        seen_at=now,
    )


def _seen(incident: Incident, source: str, finding: Finding, now: datetime) -> tuple[Incident, Event | None]:
    incident = replace(
        incident,
        source=source,
        problem=finding.problem,
        link=finding.link or incident.link,
        since=min(incident.since, finding.since or incident.since),
        seen_at=now,
        missed_at=None,
    )
    if finding.weight <= incident.weight:
        return incident, None
    worse = replace(incident, severity=finding.severity, step=finding.step)
    if incident.opened_at is None:
        return worse, None
    return replace(worse, worsened_at=now), "worsened"
