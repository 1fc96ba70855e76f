"""Saying how far a stream is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from bilten_orchestration.progress import Progress

_EVERY_SECONDS = 2


def telling(
    chunks: Iterable[bytes], progress: Progress, doing: str, *, expected_bytes: int | None = None
) -> Iterator[bytes]:
    """The same chunks; every two seconds how many MiB of them are `doing` ('read', 'stored')."""
    done = 0
    told = began = time.monotonic()
    for chunk in chunks:
        done += len(chunk)
        now = time.monotonic()
        if now - told > _EVERY_SECONDS:
            told = now
            part = f" of {expected_bytes >> 20:,}" if expected_bytes else ""
            progress(f"{done >> 20:,}{part} MiB {doing}, {done / 1e6 / (now - began):.0f} MB/s")
        yield chunk
