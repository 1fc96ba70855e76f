"""What the health API answers, as types: the JSON and its schema are made from them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["pass", "warn", "fail"]
Standing = Literal["kept", "missed", "unknown", "not_yet"]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Component(_Document):
    """A source: a store, Dagster, or a place where promises are measured."""

    name: str = Field(description="As `store/postgres`.")
    status: Literal["ok", "down", "trouble", "unknown"] = Field(
        description="down: a store does not answer; trouble: it was read, and something is wrong; unknown:"
        " it could not be read, or not lately."
    )
    detail: str | None = Field(None, description="In a few words; with the token alone.")
    read_at: datetime | None = Field(None, description="When it was read last (UTC).")
    took_seconds: float | None = Field(None, description="How long that took.")


class PromiseState(_Document):
    """Something promised, and how it stands."""

    name: str = Field(description="As `rpo/<bucket>`, `sync_lag`, `partitions_ahead/<table>`.")
    status: Standing = Field(
        description="unknown: nobody can tell, which is not kept; not_yet: at a new installation it has not"
        " been due, which is neither kept nor missed."
    )
    value: float | None = Field(description="In `unit`; null where nothing tells.")
    limit: float = Field(description="At most so much, or at least where `least` is true.")
    unit: str
    least: bool = False
    detail: str | None = Field(None, description="In a few words; with the token alone.")


class IncidentState(_Document):
    """An open incident; with the token alone."""

    key: str
    kind: str
    severity: Literal["info", "warning", "critical"]
    what: str
    expected: str
    found: str
    next: str
    owner: str
    since: datetime
    link: str


class Counts(_Document):
    info: int
    warning: int
    critical: int
    undelivered: int = Field(description="Messages that a receiver has not taken.")
    not_yet: int = Field(description="Promises that have not been due at a new installation.")


class Health(_Document):
    """Everything. fail (503): a store is down, something critical is open, or the watchdog does not judge;
    warn (200): something else is wrong or not known; pass (200): nothing is, though `counts.not_yet` promises
    may not have been due."""

    status: Status
    at: datetime
    environment: str
    components: tuple[Component, ...]
    promises: tuple[PromiseState, ...]
    counts: Counts
    incidents: tuple[IncidentState, ...] | None = Field(None, description="With the token alone.")


class Live(_Document):
    """Whether the watchdog judges; 503 when it does not."""

    status: Literal["pass", "fail"]
    open_incidents: int
    judged_seconds_ago: float | None = Field(description="null before the first judgement.")


class Ready(_Document):
    """Whether every store answers; 503 when one does not, or is not known to."""

    status: Literal["pass", "fail"]
    waiting_for: tuple[str, ...]


class Refusal(_Document):
    """401, 404 and 405."""

    error: str
