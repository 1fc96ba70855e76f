"""How long the stages of a stream were busy, where they run side by side and no wall clock can tell."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Busy:
    """Seconds by stage, of however many threads."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._guard = threading.Lock()

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._add(stage, time.monotonic() - began)

    def making(self, stage: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks; the time that each took to come is the stage's."""
        return self._timed(stage, 1, chunks)

    def awaiting(self, stage: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks; the time that each took to come is none of the stage's, which waited for it."""
        return self._timed(stage, -1, chunks)

    def share(self, stage: str) -> float:
        """Of all that was busy, 0 to 1; 0 where nothing was."""
        with self._guard:
            whole = sum(self._seconds.values())
            return self._seconds[stage] / whole if whole > 0 else 0.0

    def _timed(self, stage: str, sign: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
        source = iter(chunks)
        while True:
            began = time.monotonic()
            chunk = next(source, None)
            self._add(stage, sign * (time.monotonic() - began))
            if chunk is None:
                return
            yield chunk

    def _add(self, stage: str, seconds: float) -> None:
        with self._guard:
            self._seconds[stage] += seconds
