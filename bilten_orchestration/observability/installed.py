"""Whether something can have happened yet: what is not due is neither kept nor missed.

Of a new installation no backup was ever due, and to call it missed would make the first day's page red and
teach people not to look. But missing evidence is not good either: it is `not yet`, until the first schedule
after the installation has passed, and its grace; from then on it is missed. When the platform was installed
PostgreSQL says (the first migration). Where nobody has said it, what would have been due since the watchdog
began to look is missed all the same, and the rest is unknown.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from bilten_orchestration import cron
from bilten_orchestration.errors import BiltenError
from bilten_orchestration.local.privileges import server_file
from bilten_orchestration.observability.sources import bounded
from bilten_orchestration.settings import Settings

_ASK_SECONDS: Final = 60.0
_FILE: Final = "installed.json"

Due = Literal["due", "not_yet", "unknown"]


@dataclass(frozen=True, slots=True)
class Installed:
    """`at`: when the platform was installed, None where nobody has said; `watched_since`: when a watchdog of
    this state directory began to look. UTC."""

    at: datetime | None
    watched_since: datetime

    def due(self, first: Callable[[datetime], datetime], now: datetime) -> Due:
        """`first`: when something is missing that has not happened since an installation at that time."""
        if self.at is None:
            return "due" if now >= first(self.watched_since) else "unknown"
        return "due" if now >= first(self.at) else "not_yet"

    def seen(self, moments: Iterable[datetime]) -> Installed:
        """The same, with things that have happened: it was there then."""
        earliest = min(moments, default=None)
        if earliest is None or (self.at is not None and self.at <= earliest):
            return self
        return Installed(earliest, self.watched_since)


def after(expression: str, grace: timedelta) -> Callable[[datetime], datetime]:
    """The first tick of a schedule, and its grace."""
    return lambda installed: cron.first_after(expression, installed) + grace


def whenever(seconds: float) -> Callable[[datetime], datetime]:
    """So long after the installation: of what goes on without a schedule."""
    return lambda installed: installed + timedelta(seconds=seconds)


class Installation:
    """When that was: asked of PostgreSQL until it says it, and kept on disk. Threads may share it."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings, self._file = settings, directory / _FILE
        self._guard = threading.Lock()
        self._known = _kept(self._file)
        self._asked_at: float | None = None

    def __call__(self) -> Installed:
        """Asks where it is not known, and at most once a minute; the answer takes seconds at most."""
        with self._guard:
            if self._known is None:
                self._keep(Installed(None, datetime.now(UTC)))
            assert self._known is not None  # noqa: S101
            ago = None if self._asked_at is None else time.monotonic() - self._asked_at
            if self._known.at is None and (ago is None or ago > _ASK_SECONDS):
                self._asked_at = time.monotonic()
                # that PostgreSQL is away is an incident of its own
                with contextlib.suppress(BiltenError):
                    found = asked(self._settings)
                    if found is not None:
                        self._keep(replace(self._known, at=found))
            return self._known

    def _keep(self, known: Installed) -> None:
        self._known = known
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps({"at": known.at and known.at.isoformat(), "since": known.watched_since.isoformat()})
        with contextlib.suppress(OSError):  # a full disk: it is asked again after the next start
            server_file(self._file, text, None)


def asked(settings: Settings) -> datetime | None:
    """When the first migration began; None before there is any. Raises StoreUnavailable, AccessRefused."""
    with bounded.connected(settings, "the question when it was installed", seconds=5) as connection:
        there = connection.execute("select to_regclass('system.migrations')").fetchone()
        if there is None or there[0] is None:
            return None
        row = connection.execute("select min(started_at) from system.migrations").fetchone()
    return None if row is None else row[0]


def recorded(directory: Path) -> datetime | None:
    """When the platform was installed, as it is kept on disk; None where nobody has said. Asks nobody."""
    known = _kept(directory / _FILE)
    return None if known is None else known.at


def _kept(file: Path) -> Installed | None:
    try:
        found = json.loads(file.read_text())
        at = found["at"]
        return Installed(at and datetime.fromisoformat(at), datetime.fromisoformat(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or half of one: it is asked again
