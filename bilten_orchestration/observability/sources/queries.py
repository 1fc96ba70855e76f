"""Slow queries: the difference of PostgreSQL's statement statistics is taken by the watchdog's clock, for an
empty run of Dagster costs more than many looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.errors import LockHeld
from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class Statements:
    """That nobody collects is judged by the checks of the advice; what is slow is in system.slow_queries."""

    settings: Settings
    name: str = "queries"
    interval_seconds: float = 300
    needs: tuple[str, ...] = ("store/postgres",)

    def read(self) -> Reading:
        from bilten_orchestration.observability.queries.collect import collect

        try:
            found = collect(self.settings)
        except LockHeld:
            return Reading(detail="another collector is at work")
        return Reading(detail=f"{found.slow} slow statements since the last look")

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None
