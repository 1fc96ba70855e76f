"""What slipped past the marks: the index that serves against PostgreSQL, repaired where it differs.

Nothing should: every difference is a fault somewhere (a write by hand, a lost node, an error of ours), so it
is told as one, with how many there were. Sampled, some documents of either side are compared; whole, all of
them are, by hash per range of keys. Changes wait meanwhile, for the index must stand still: seconds for a
sample, for a million events some minutes.

A repair is a batch of changes with the differing events among them (repair.py): a kill leaves them for the
next.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from bilten_orchestration.errors import Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import documents
from bilten_orchestration.search.batch import Pinned, open_work, pinned, writing
from bilten_orchestration.search.comparison import (
    SAMPLE,
    Compared,
    Difference,
    compare_all,
    compare_these,
    sampled,
)
from bilten_orchestration.search.delta import serving_index
from bilten_orchestration.search.opened import opened
from bilten_orchestration.search.repair import repair_documents
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class DriftReport:
    """`compared` is as it was found; `repaired` differ no more, `remaining` do."""

    index: str
    batch: int
    whole: bool
    compared: Compared
    repaired: int
    remaining: int
    sample: tuple[Difference, ...]
    seconds: float

    @property
    def problems(self) -> list[Problem]:
        if not self.compared.differing:
            return []
        shown = "; ".join(f"{each.document_id} {each.state}" for each in self.sample)
        found = self.compared
        return [
            Problem(
                f"{self.index} had drifted from PostgreSQL",
                expected=f"{found.documents_postgres:,} documents as PostgreSQL has them",
                found=f"{found.missing:,} missing, {found.extra:,} too many, {found.changed:,} that differ; "
                f"{self.repaired:,} repaired, {self.remaining:,} left: {shown}",
                next="find out who else writes to the index"
                + ("; bilten search reindex, for what is left" if self.remaining else ""),
            )
        ]


def drift(
    settings: Settings,
    *,
    whole: bool = False,
    repair: bool = True,
    run_id: str = "bilten search drift",
    progress: Progress = silent,
) -> DriftReport:
    """Raises as delta: Refused, LockHeld."""
    started = time.monotonic()
    with opened(settings, "the drift check") as stores:
        index = serving_index(stores, run_id)
        work = open_work(settings, stores.connection, stores.client, index, progress=progress)
        with writing(work):
            with pinned(work) as found:
                batch = found.applied.batch
                stores.client.indices.refresh(index=index)  # also of what somebody else wrote
                compared = compare_all(found) if whole else compare_these(found, _chosen(found))
            differing = {each.document_id for each in compared.differences}
            progress(f"{index}: {compared.differing:,} documents differ")
            remaining = compared.differing
            if differing and repair:
                applied, left = repair_documents(work, differing)
                batch = applied.batch
                remaining += left.differing - len(differing)
    return DriftReport(
        index=index,
        batch=batch,
        whole=whole,
        compared=compared,
        repaired=compared.differing - remaining,
        remaining=remaining,
        sample=compared.differences[:SAMPLE],
        seconds=time.monotonic() - started,
    )


def _chosen(found: Pinned) -> set[str]:
    """Some documents of either side: what is missing there is only to be found here, and the reverse."""
    work = found.work
    size, seed = work.settings.search.drift_sample, secrets.randbelow(1 << 31)
    rows = found.connection.execute(documents.sample(size, str(seed))).fetchall()
    return {str(row[0]) for row in rows} | sampled(work.client, work.index, size, seed)
