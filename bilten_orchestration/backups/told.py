"""How far a stream is, said while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from bilten_orchestration.progress import Progress

_EVERY_SECONDS = 2


class Told:
    """Counts what passes, and says how far it is at most every two seconds: so many MiB are `doing`, of about
    `expected_bytes` where that is known."""

    def __init__(self, progress: Progress, expected_bytes: int | None = None, doing: str = "read") -> None:
        self._progress, self._expected, self._doing = progress, expected_bytes, doing
        self._bytes = 0
        self._at = self._began = time.monotonic()

    def counting(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._bytes += len(chunk)
            now = time.monotonic()
            if now - self._at > _EVERY_SECONDS:
                self._at = now
                rate = self._bytes / (now - self._began)
                part = ""
                if self._expected:
                    part = f", about {min(99, self._bytes * 100 // self._expected)} %"
                self._progress(f"{self._bytes >> 20:,} MiB {self._doing}{part}, {rate / 1e6:.0f} MB/s")
            yield chunk
