"""How far a consumer of changes is behind PostgreSQL: one answer for checks, alerts and the health API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bilten_orchestration.stores.postgres import Connection

WARN_SECONDS: Final = 3600
FAIL_SECONDS: Final = 6 * 3600
#: Of the clickstream, since its newest click arrived; the same in dbt_project/models/staging/_staging.yml.
CLICKS_WARN_SECONDS: Final = 6 * 3600
CLICKS_FAIL_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Lag:
    """`seconds` since the snapshot of the last whole batch, None before the first one; `applying` is a batch
    that was begun and not ended."""

    consumer: str
    batch: int
    applying: int | None
    as_of: datetime | None
    seconds: float | None


def read(connection: Connection, consumer: str) -> Lag:
    row = connection.execute(
        "select batch, applying_batch, as_of from system.sync_state where consumer = %s", (consumer,)
    ).fetchone()
    if row is None or row[2] is None:
        return Lag(consumer, 0, None, None, None)
    batch, applying, as_of = row
    return Lag(consumer, int(batch), applying, as_of, (datetime.now(UTC) - as_of).total_seconds())
