"""Tells once that a store does not answer, and once that it does again, whichever thread notices."""

from __future__ import annotations

import threading

from bilten_orchestration.progress import Progress


class Outages:
    """Of one store. `meanwhile` says what becomes of the work."""

    def __init__(self, store: str, meanwhile: str, progress: Progress) -> None:
        self._store, self._meanwhile, self._progress = store, meanwhile, progress
        self._lock = threading.Lock()
        self._away = False

    def begin(self, error: Exception | None = None) -> None:
        if self._turned(away=True):
            why = f": {str(error).splitlines()[0][:200]}" if error is not None and str(error) else ""
            self._progress(f"{self._store} went away; {self._meanwhile}{why}")

    def end(self) -> None:
        if self._turned(away=False):
            self._progress(f"{self._store} is back")

    def _turned(self, *, away: bool) -> bool:
        with self._lock:
            before, self._away = self._away, away
            return before != away
