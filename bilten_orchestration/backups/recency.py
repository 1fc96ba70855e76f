"""Whether the repository lists a backup of each planned kind that is young enough.

Counted is what a restore could begin with: not what is expired, not what builds on a backup that is expired
or gone, and not what is dated ahead of now. Of a clock that was a year ahead, a backup would count as young
for a year, and nobody would hear that no other one is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.backups.plan import Planned

if TYPE_CHECKING:
    from bilten_orchestration.backups.repository.catalogue import Catalogue

#: Clocks of machines that take backups may differ by as much.
_APART = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Recency:
    """`backups` that satisfy the schedule; `age` of the newest, None where there is none. `ahead` of them are
    dated ahead of now, and `broken` without what they build on: they do not count."""

    planned: Planned
    backups: int
    age: timedelta | None
    ahead: int = 0
    broken: int = 0

    @property
    def found(self) -> str:
        newest = "none" if self.age is None else f"the newest began {hours(self.age)} ago"
        ahead = f", and {self.ahead} dated ahead of now (see the clocks)" if self.ahead else ""
        broken = f", and {self.broken} without what they build on" if self.broken else ""
        return newest + ahead + broken

    @property
    def said(self) -> str:
        """What is wrong; empty where nothing is."""
        if self.age is None and not (self.ahead or self.broken):
            return f"there is no such backup; next: {self.planned.command}"
        if self.age is None or self.age > self.planned.within:
            return f"{self.found}, expected within {hours(self.planned.within)}; next: {self.planned.command}"
        return ""


def judge(found: Catalogue, planned: Planned, now: datetime) -> Recency:
    """`found`: the catalogue of the planned store."""
    kinds = (planned.kind, *planned.as_good)
    there = [backup.manifest for backup in found.backups if backup.state != "expired"]
    ids = {manifest.id for manifest in there}
    ours = [manifest for manifest in there if manifest.kind in kinds]
    whole = [manifest for manifest in ours if manifest.parent is None or manifest.parent in ids]
    begun = [manifest.started_at for manifest in whole if manifest.started_at <= now + _APART]
    newest = max(begun, default=None)
    return Recency(
        planned,
        len(begun),
        None if newest is None else max(timedelta(), now - newest),
        ahead=len(whole) - len(begun),
        broken=len(ours) - len(whole),
    )


def hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.0f} hours"
