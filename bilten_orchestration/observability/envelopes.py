"""Which waiting messages go out now, alone or as one: a flood must not hide what it is about. No I/O.

Of a receiver: up to `burst` messages within `window` go out each by itself, at once. More of them go out as
one summary; the next one comes a window later, a tenth of it where something critical opened or got worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from bilten_orchestration.observability.ledger import Message

HASTE: Final = 10


def due(
    waiting: Sequence[Message],
    sent: Sequence[tuple[datetime, int]],
    *,
    now: datetime,
    burst: int,
    window: timedelta,
) -> list[list[Message]]:
    """`waiting` in order; `sent`: when envelopes went out within the window, and of how many incidents
    they told.

    What waits about one incident goes out as one, told as it is now. A message that waits for its time (quiet
    hours, the pause after a failure) holds back what came later about the same incident, so that nothing
    recovers before it opened; but one that got worse takes it along.
    """
    ready = _ready(waiting, now)
    if not ready:
        return []
    recent = [(at, count) for at, count in sent if now - at < window]
    if len(ready) + len(recent) <= burst or (len(ready) == 1 and not recent):
        return ready
    every = [message for about in ready for message in about]
    critical = any(message.severity == "critical" and message.event != "recovered" for message in every)
    pause = window / HASTE if critical else window
    summaries = [at for at, count in recent if count > 1]
    # without a summary yet the first one goes at once: that is the news
    if summaries and now - max(summaries) < pause:
        return []
    return [every]


def _ready(waiting: Sequence[Message], now: datetime) -> list[list[Message]]:
    """What may go out now, by incident."""
    held: dict[str, list[Message]] = {}
    ready: dict[str, list[Message]] = {}
    for message in waiting:
        about = message.incident.id
        if message.next_try_at > now or (about in held and message.event != "worsened"):
            held.setdefault(about, []).append(message)
        else:
            ready.setdefault(about, []).extend((*held.pop(about, ()), message))
    return list(ready.values())
