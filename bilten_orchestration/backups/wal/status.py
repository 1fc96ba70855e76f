"""What the stream of WAL says of itself: one small file, written every few seconds.

It is read without asking any server, so that it tells most when servers are away. That it is old is news too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from bilten_orchestration.errors import Problem
from bilten_orchestration.settings import Settings

# it is written every second; uploads that hang are given up after a minute
STALE = timedelta(seconds=90)
#: The problem that no stream is at work.
NOT_TAKEN = "WAL is not being taken"
State = Literal["starting", "streaming", "waiting", "halted", "stopped"]


@dataclass(frozen=True, slots=True)
class BucketStatus:
    """`reachable_until` by the server's clock, None before the first heartbeat is stored; `rpo_seconds` is
    how long ago that was."""

    bucket: str
    reachable_until: datetime | None
    rpo_seconds: float | None


@dataclass(frozen=True, slots=True)
class WalStatus:
    """`shipped` is up to where WAL of `timeline` is in the repository. `problems` are those of now."""

    at: datetime
    pid: int
    state: State
    system_identifier: str | None
    timeline: int | None
    shipped: str | None
    shipped_at: datetime | None
    spool_bytes: int
    spool_limit_bytes: int
    buckets: tuple[BucketStatus, ...]
    problems: tuple[Problem, ...]


def place(settings: Settings) -> Path:
    return settings.home / "wal-status.json"


def write(path: Path, status: WalStatus) -> None:
    """In one step: a reader never sees half of it."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(_ADAPTER.dump_json(status))
    os.replace(new, path)


def read(path: Path, now: datetime | None = None) -> tuple[WalStatus | None, tuple[Problem, ...]]:
    """What the service said last, and everything that is wrong: that it says nothing comes first."""
    try:
        status = _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None, (_silent("no word of it"),)
    except ValidationError:
        return None, (_silent("a file that it did not write"),)
    age = (now or datetime.now(UTC)) - status.at
    if status.state == "stopped":
        return status, (_silent(f"it was stopped at {status.at:%F %T} UTC"), *status.problems)
    if age > STALE or not Path(f"/proc/{status.pid}").exists():
        return status, (_silent(f"its last word, of {status.at:%F %T} UTC"), *status.problems)
    return status, status.problems


def _silent(found: str) -> Problem:
    return Problem(
        NOT_TAKEN,
        expected="`bilten wal stream` at work",
        found=found,
        next="bilten up starts it; bilten logs wal",
    )


_ADAPTER: TypeAdapter[WalStatus] = TypeAdapter(WalStatus)
