"""What people read: one message about one incident, or one summary of many.

Title: where, how bad, what. Body: since when, expected and found, the command that helps, the run, the
section of the documents. No secret: every text goes through secrecy.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bilten_orchestration.observability.finding import SEVERITIES, Severity
from bilten_orchestration.observability.incidents import Event
from bilten_orchestration.observability.ledger import Message
from bilten_orchestration.observability.secrecy import Secrecy

TITLE: Final = 120  # characters; receivers cut more than that in their own ways
FOUND: Final = 1200
RUNBOOK: Final = "docs/operations.md"
LISTED: Final = 20  # incidents named in a summary

_SAID: Final[dict[Event, str]] = {"opened": "", "worsened": "WORSE: ", "recovered": "RECOVERED: "}


@dataclass(frozen=True, slots=True)
class Text:
    title: str
    body: str
    severity: Severity
    recovered: bool


def text(messages: Sequence[Message], environment: str, secrecy: Secrecy, *, runbook: str = RUNBOOK) -> Text:
    """One message about one incident, told by the newest of these, or the summary of several incidents.
    `runbook` is where the sections are."""
    one = len({message.incident.id for message in messages}) == 1
    found = _one(messages, environment, runbook) if one else _many(messages, environment)
    return Text(
        secrecy.clean(_cut(found.title, TITLE)), secrecy.clean(found.body), found.severity, found.recovered
    )


def _one(messages: Sequence[Message], environment: str, runbook: str) -> Text:
    message = messages[-1]
    incident, problem = message.incident, message.incident.problem
    severity = "ok" if message.event == "recovered" else message.severity
    lines = [problem.what, ""]
    if message.event == "recovered":
        assert incident.resolved_at is not None  # noqa: S101
        lines.append(
            f"from:     {_moment(incident.since)} to {_moment(incident.missed_at or incident.resolved_at)}"
        )
    else:
        lines.append(f"since:    {_moment(incident.since)}")
    said = "was" if message.event == "recovered" else "found"
    for name, value in (("expected", problem.expected), (said, problem.found)):
        if value:
            lines.append(f"{name + ':':<9} {_cut(value, FOUND)}")
    if message.event != "recovered":
        if problem.next:
            lines.append(f"next:     {problem.next}")
        lines.append(f"more:     {runbook}#{incident.kind}")
    if incident.link:
        lines.append(f"run:      {incident.link}")
    lines += [f"owner:    {incident.owner}", f"incident: {incident.key} ({incident.id[:8]})"]
    if any(each.repeated for each in messages):
        lines += ["", "The watchdog was ended while it sent this: you may have read it before."]
    title = f"[Bilten {environment}] {severity.upper()} {_SAID[message.event]}{problem.what}"
    return Text(title, "\n".join(lines), message.severity, message.event == "recovered")


def _many(messages: Sequence[Message], environment: str) -> Text:
    """By severity, the worst first. What opened and recovered meanwhile is said once, at its last state."""
    last = {message.incident.id: message for message in messages}
    newest = sorted(
        last.values(),
        key=lambda each: (each.event == "recovered", -SEVERITIES.index(each.severity), each.id),
    )
    counts = [
        (sum(each.event == "opened" for each in newest), "opened"),
        (sum(each.event == "worsened" for each in newest), "got worse"),
        (sum(each.event == "recovered" for each in newest), "recovered"),
    ]
    said = ", ".join(f"{count} {what}" for count, what in counts if count)
    worst = max(
        (each.severity for each in newest if each.event != "recovered"), key=SEVERITIES.index, default=None
    )
    lines = [f"{len(newest)} incidents: {said}.", ""]
    for each in newest[:LISTED]:
        state = "recovered" if each.event == "recovered" else each.severity
        lines.append(f"{state:<9} {_cut(each.incident.problem.what, TITLE)}")
        if each.event != "recovered" and each.incident.problem.next:
            lines.append(f"          next: {_cut(each.incident.problem.next, TITLE)}")
    if len(newest) > LISTED:
        kinds: dict[str, int] = {}
        for each in newest[LISTED:]:
            kinds[each.incident.kind] = kinds.get(each.incident.kind, 0) + 1
        more = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(f"and {len(newest) - LISTED} more: {more}")
    lines += ["", "all of them: bilten alerts list"]
    if any(message.repeated for message in messages):
        lines += ["", "The watchdog was ended while it sent some of this: you may have read it before."]
    return Text(
        f"[Bilten {environment}] {(worst or 'ok').upper()} {len(newest)} incidents: {said}",
        "\n".join(lines),
        worst or "info",
        worst is None,
    )


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _cut(value: str, length: int) -> str:
    return value if len(value) <= length else value[: length - 4].rstrip() + " ..."
