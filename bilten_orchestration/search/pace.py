"""How many bulk requests are out at once: fewer after every refusal, slowly more again.

Additive increase and multiplicative decrease, as TCP does it. What refuses is the server's write queue or its
indexing pressure (429), or a node that is away; both want fewer requests and time, and nobody but the server
knows how many are too many.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0


class Pace:
    """Shared by all senders of one load. `clock` and `sleep` are passed in by tests."""

    def __init__(
        self,
        most: int,
        patience_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.most = most
        self.patience_seconds = patience_seconds
        self.refusals = 0
        self._clock = clock
        self._sleep = sleep
        self._room = threading.Condition()
        self._limit = float(most)
        self._out = 0
        self._pause_seconds = 0.0
        self._refused_since: float | None = None

    @property
    def limit(self) -> int:
        """Requests that may be out now; never none."""
        return max(1, int(self._limit))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for room, and be one of those that are out."""
        with self._room:
            self._room.wait_for(lambda: self._out < self.limit)
            self._out += 1
        try:
            yield
        finally:
            with self._room:
                self._out -= 1
                self._room.notify_all()

    def accepted(self) -> None:
        with self._room:
            self._refused_since = None
            self._pause_seconds = 0.0
            self._limit = min(float(self.most), self._limit + 1 / self._limit)
            self._room.notify_all()

    def refused(self) -> bool:
        """Pause; False when the server has taken nothing for longer than the patience lasts."""
        with self._room:
            self.refusals += 1
            now = self._clock()
            if self._refused_since is None:
                self._refused_since = now
            left = self._refused_since + self.patience_seconds - now
            self._limit = max(1.0, self._limit / 2)
            self._pause_seconds = min(
                LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, self._pause_seconds * 2)
            )
            pause = self._pause_seconds
        if left <= 0:
            return False
        # spread, or those that were refused together come back together
        self._sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311
        return True
