"""Who is told: receivers from the settings, and which messages each of them takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from bilten_orchestration.errors import Problem, SettingsError
from bilten_orchestration.observability.finding import SEVERITIES, Severity
from bilten_orchestration.settings import AlertSettings

SETTING = "BILTEN_ALERTS__RECEIVERS"


@dataclass(frozen=True, slots=True)
class Receiver:
    """`name` is for people and holds no secret; `id` stays the same as long as the URL does."""

    id: str
    name: str
    url: str = field(repr=False)
    owners: tuple[str, ...] = ()
    least: Severity = "info"

    def hears(self, severity: Severity) -> bool:
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.least)


def receivers(settings: AlertSettings) -> tuple[Receiver, ...]:
    """Raises SettingsError for entries that nothing can be sent to, all of them at once."""
    from apprise import Apprise

    found: list[Receiver] = []
    problems: list[Problem] = []
    for number, item in enumerate(settings.receivers.get_secret_value().split(), 1):
        head, separator, rest = item.partition("=")
        tags, url = (head.split(","), rest) if separator and "://" not in head else ([], item)
        scheme = url.partition("://")[0]
        if Apprise.instantiate(url) is None:
            problems.append(
                Problem(
                    f"{SETTING}: entry {number} is no receiver",
                    expected="[tag,tag=]URL as apprise has it, like mailto://user:password@host?to=a@example.org",
                    found=f"{scheme}://...",
                    next="correct it, then: bilten alerts test",
                )
            )
            continue
        severities = [tag for tag in tags if tag in SEVERITIES]
        found.append(
            Receiver(
                id=hashlib.sha256(url.encode()).hexdigest()[:12],
                name=f"{number} ({scheme})",
                url=url,
                owners=tuple(tag for tag in tags if tag and tag not in SEVERITIES),
                least=cast(Severity, severities[0]) if severities else "info",
            )
        )
    if problems:
        raise SettingsError(problems)
    first: dict[str, Receiver] = {}
    for receiver in found:
        first.setdefault(receiver.id, receiver)
    return tuple(first.values())


def route(among: Sequence[Receiver], owner: str, severity: Severity) -> tuple[Receiver, ...]:
    """Those that take a message: the owner's own, else those of nobody; each from its least severity on.

    Where that leaves nobody, everybody of nobody hears it, and where there is none, everybody: a message that
    reaches none is lost.
    """
    own = [receiver for receiver in among if owner in receiver.owners]
    free = [receiver for receiver in among if not receiver.owners]
    # one with a severity alone (a pager) hears of every owner
    pagers = [receiver for receiver in free if receiver.least != "info"]
    for candidates in ([*own, *pagers] if own else free, free, list(among)):
        if taken := [receiver for receiver in candidates if receiver.hears(severity)]:
            return tuple(taken)
    return tuple(free or among)
