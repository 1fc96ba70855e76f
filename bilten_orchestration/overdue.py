"""What happens when a step takes longer than it should: it is told, or cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def overdue(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` once, from another thread, when the block still runs after so many seconds.

    It is not at work any more when the block was left.
    """
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
