"""Waiting for a condition instead of sleeping for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(found: Callable[[], T], what: str, seconds: float = 60, every: float = 0.02) -> T:
    """The first true value that `found` gives, asked `every` so many seconds, and a little less often the
    longer it takes; fails with `what` after `seconds`."""
    began = time.monotonic()
    while not (got := found()):
        waited = time.monotonic() - began
        assert waited < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(max(every, min(0.02 * waited, 0.25)))
    return got
