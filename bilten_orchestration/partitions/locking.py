"""Locks of tables, asked for so that nobody queues behind us.

What waits for a strong lock makes every later statement on that table wait behind it. So each attempt waits
at most `lock_timeout_milliseconds`, and is repeated after a random pause that grows. A foreign key of the
partitioned table makes ATTACH, DETACH and DROP lock the referenced table too, under the same rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from bilten_orchestration.errors import TransientError
from bilten_orchestration.settings import PartitionSettings

#: One runner of maintenance: creating, ending, restoring, adopting.
LOCK = "partitions"
#: Shared: whatever reads a snapshot; exclusive: detach and drop.
SNAPSHOT = "snapshot"
BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one attempt waits for a lock, and for how long attempts are repeated."""

    lock_timeout_milliseconds: int = 100
    retry_seconds: float = 60

    @classmethod
    def of(cls, settings: PartitionSettings) -> Patience:
        return cls(settings.lock_timeout_milliseconds, settings.lock_retry_seconds)

    @property
    def lock_timeout(self) -> str:
        return f"{self.lock_timeout_milliseconds}ms"


def retried(patience: Patience, what: str, work: Callable[[], T]) -> T:
    """`work` until it had its locks; it sets the lock_timeout itself, and leaves nothing when it has not.

    `what` completes 'users.user_behavior_p202601 could not be ...'. Raises TransientError.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(BUSY),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_delay(patience.retry_seconds),
        reraise=True,
    )
    try:
        return retrying(work)
    except BUSY as error:
        raise TransientError(
            what,
            expected=f"a lock within {patience.lock_timeout}, tried for {patience.retry_seconds:g} s",
            found=str(error).strip().splitlines()[0],
            next="look for long transactions on the table (pg_stat_activity), then run it again",
        ) from None
