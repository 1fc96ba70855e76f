"""What `bilten alerts` shows: incidents, messages that did not arrive, and whether receivers take a test."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from bilten_orchestration.errors import BiltenError, Problem, Refused
from bilten_orchestration.observability import delivery, ledger, record, watchdog
from bilten_orchestration.observability.finding import Kind, Severity
from bilten_orchestration.observability.incidents import Incident
from bilten_orchestration.observability.ledger import Ledger, Message
from bilten_orchestration.observability.messages import Text
from bilten_orchestration.observability.receivers import SETTING, Receiver, receivers
from bilten_orchestration.observability.secrecy import Secrecy
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class ListedIncident:
    """`resolved_at` is None while it is open; `since` may be before it was noticed (`opened_at`)."""

    id: str
    key: str
    kind: Kind
    severity: Severity
    problem: Problem
    owner: str
    link: str
    since: datetime
    opened_at: datetime
    worsened_at: datetime | None
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message that a receiver has not taken yet, or never will (`given_up`)."""

    receiver: str
    key: str
    event: str
    created_at: datetime
    attempts: int
    given_up: bool
    error: str


@dataclass(frozen=True, slots=True)
class Alerts:
    """`read_from`: PostgreSQL, or the watchdog's disk while that is away."""

    incidents: tuple[ListedIncident, ...]
    undelivered: tuple[Undelivered, ...]
    read_from: Literal["postgres", "disk"]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Tested:
    """`error` is None where the receiver took the message."""

    receiver: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Tried:
    receivers: tuple[Tested, ...]
    problems: tuple[Problem, ...]


def alerts(settings: Settings, *, days: int) -> Alerts:
    """Raises StoreUnavailable or AccessRefused when neither PostgreSQL nor the disk tells."""
    back = timedelta(days=days)
    place = watchdog.directory(settings)
    messages: list[Message] = []
    source: Literal["postgres", "disk"] = "postgres"
    found: list[Incident] | None = None
    if ledger.place(place).exists():
        held = Ledger(place)
        try:
            messages = held.undelivered(datetime.now(UTC) - max(back, timedelta(days=1)))
            on_disk = held.listed(datetime.now(UTC) - back)
        finally:
            held.close()
        # the disk knows more of this machine's watchdog, PostgreSQL of what was before it
        try:
            recorded = record.listed(settings, back)
            newest = {incident.id: incident for incident in (*recorded, *on_disk)}
            found = sorted(newest.values(), key=lambda each: (each.opened_at or each.since, each.key))
        except BiltenError:
            found, source = on_disk, "disk"
    if found is None:
        found = record.listed(settings, back)
    names = {receiver.id: receiver.name for receiver in receivers(settings.alerts)}
    undelivered = tuple(
        Undelivered(
            names.get(each.receiver, "one that is not in the settings any more"),
            each.incident.key,
            each.event,
            each.created_at,
            each.attempts,
            each.state == "failed",
            each.error,
        )
        for each in messages
    )
    listed = tuple(_listed(incident) for incident in found if incident.opened_at is not None)
    problems = [each.problem for each in listed if each.resolved_at is None]
    if undelivered:
        problems.append(
            Problem(
                f"{len(undelivered)} messages were not delivered",
                expected="every receiver takes what it is sent",
                found=undelivered[-1].error,
                next="bilten alerts test",
            )
        )
    return Alerts(listed, undelivered, source, tuple(problems))


def try_receivers(settings: Settings, *, progress: Progress = silent) -> Tried:
    """Send a test message to every receiver. Raises Refused where there is none, SettingsError."""
    among = receivers(settings.alerts)
    if not among:
        raise Refused(
            "there are no receivers: nobody is told of anything",
            expected=f"at least one URL in {SETTING}",
            found="none",
            next=f"set {SETTING}, as docs/settings.md says; bilten up hands it to the watchdog",
        )
    secrecy = Secrecy(settings)
    text = Text(
        f"[Bilten {settings.environment}] TEST of alerts",
        "Somebody called `bilten alerts test`. Nothing is wrong.",
        "info",
        recovered=False,
    )

    def one(receiver: Receiver) -> Tested:
        progress(f"sending to {receiver.name}")
        failed = delivery.send(receiver, text)
        return Tested(receiver.name, None if failed is None else secrecy.clean(failed))

    with ThreadPoolExecutor(max_workers=min(8, len(among))) as pool:
        found = tuple(pool.map(one, among))
    return Tried(
        found,
        tuple(
            Problem(
                f"receiver {each.receiver} did not take the test message",
                expected="delivered",
                found=each.error,
                next=f"correct its URL in {SETTING}",
            )
            for each in found
            if each.error is not None
        ),
    )


def _listed(incident: Incident) -> ListedIncident:
    assert incident.opened_at is not None  # noqa: S101
    return ListedIncident(
        incident.id,
        incident.key,
        incident.kind,
        incident.severity,
        incident.problem,
        incident.owner,
        incident.link,
        incident.since,
        incident.opened_at,
        incident.worsened_at,
        incident.resolved_at,
    )
