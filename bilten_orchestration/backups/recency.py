"""Whether the repository lists a backup of each planned kind that is young enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.backups.plan import Planned

if TYPE_CHECKING:
    from bilten_orchestration.backups.repository.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Recency:
    """`backups` that satisfy the schedule; `age` of the newest, None where there is none."""

    planned: Planned
    backups: int
    age: timedelta | None

    @property
    def said(self) -> str:
        """What is wrong; empty where nothing is."""
        if self.age is None:
            return f"there is no such backup; next: {self.planned.command}"
        if self.age > self.planned.within:
            return f"the newest began {hours(self.age)} ago, expected within {hours(self.planned.within)}"
        return ""


def judge(found: Catalogue, planned: Planned, now: datetime) -> Recency:
    """`found`: the catalogue of the planned store."""
    kinds = (planned.kind, *planned.as_good)
    begun = [backup.manifest.started_at for backup in found.backups if backup.manifest.kind in kinds]
    newest = max(begun, default=None)
    return Recency(planned, len(begun), None if newest is None else now - newest)


def hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.0f} hours"
