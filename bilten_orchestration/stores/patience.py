"""How long a request to the object store is tried again: by the clock, and not by a number of attempts.

Work that moves terabytes must not begin again because a store was away for half a minute (a restart, a
fail-over); a command that only looks must not hang before a store that is not there. So a store that has
answered this client once is waited for, and one that never did is given up after a few seconds. The pauses
stay short, so that work goes on within seconds of its return.

What does not pass by itself (no rights, no bucket, no room) is an answer and never asked for again.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client

#: Of a store that has not answered yet, and of clean-up, which the sweep of retention does as well.
FIRST_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 3.0
_TOLD_EVERY_SECONDS = 5.0
_SINCE = "bilten_failing_since"
_CLEAN_UP = "AbortMultipartUpload"
_STATUSES = {429, 500, 502, 503, 504}
_CODES = {
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}


class Patience:
    """Of one client, whose own retries are off. `seconds` is how long a request that began to fail is tried
    again once the store has answered; `progress` hears of the waiting."""

    def __init__(self, seconds: float, progress: Progress) -> None:
        self._seconds, self._progress = seconds, progress
        self._answered = False
        self._guard = threading.Lock()
        self._told_at = 0.0

    def attach(self, client: S3Client) -> None:
        """Called after every attempt of every request; the event is botocore's own way to decide on it."""
        # of what botocore calls, this one event's answers count
        client.meta.events.register("needs-retry.s3", cast(Callable[..., None], self._pause))

    def _pause(
        self,
        *,
        response: tuple[Any, dict[str, Any]] | None,
        caught_exception: Exception | None,
        attempts: int,
        operation: OperationModel,
        request_dict: dict[str, Any],
        **_: object,
    ) -> float | None:
        """Seconds until the next attempt; None: this was the last one."""
        found = _passing(response, caught_exception)
        if found is None:
            self._answered = True
            return None
        now = time.monotonic()
        since: float = request_dict["context"].setdefault(_SINCE, now)
        patient = self._answered and operation.name != _CLEAN_UP
        limit = self._seconds if patient else min(self._seconds, FIRST_SECONDS)
        if limit <= FIRST_SECONDS and _silent(caught_exception):
            return None  # it was waited for a minute already
        longest: float = min(0.1 * 2.0 ** min(attempts, 10), _LONGEST_PAUSE_SECONDS)
        pause = longest * random.uniform(0.5, 1)  # noqa: S311
        if now - since + pause > limit:
            return None
        self._tell(found, now, limit - (now - since))
        return pause

    def _tell(self, found: str, now: float, left: float) -> None:
        with self._guard:
            if now - self._told_at < _TOLD_EVERY_SECONDS:
                return
            self._told_at = now
        self._progress(f"the object store does not serve ({found}): waiting for it, {left:.0f} s at most")


def _passing(response: tuple[Any, dict[str, Any]] | None, caught: Exception | None) -> str | None:
    """What went wrong and may be otherwise soon; None for every other answer, good or bad."""
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError

    if caught is not None:
        return type(caught).__name__ if isinstance(caught, NoConnection | HTTPClientError) else None
    if response is None:
        return None
    status, code = response[0].status_code, str(response[1].get("Error", {}).get("Code", ""))
    return code or str(status) if status in _STATUSES or code in _CODES else None


def _silent(caught: Exception | None) -> bool:
    from botocore.exceptions import ReadTimeoutError

    return isinstance(caught, ReadTimeoutError)
