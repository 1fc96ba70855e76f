"""What would have been lost, known before the drill began: nothing that a drill does makes it look better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from bilten_orchestration.backups.repository.catalogue import Catalogue
from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.backups.wal import status
from bilten_orchestration.drills import clocks
from bilten_orchestration.drills.record import Lost, Record
from bilten_orchestration.drills.report import CLOCKS_APART as APART
from bilten_orchestration.errors import BiltenError
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

# they are taken each minute; the age of an older one is lost time too
_FRESH = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Exposure:
    """As of `at`. PostgreSQL: the newest sample of each bucket, by its name. Others: `newest`, the moment of
    the newest backup."""

    at: datetime
    samples: Mapping[str, Lost]
    newest: datetime | None = None

    def seconds(self, bucket: str) -> float | None:
        """What losing the server at `at` would have cost, from a bucket; None where nothing tells, or only
        what lies ahead of `at`: clocks that are apart tell nothing."""
        if self.newest is not None:
            return self._since(self.newest)
        sample = self.samples.get(bucket)
        if sample is None or sample.reachable_until is None:
            return None
        if sample.rpo_seconds is not None and -APART <= self.at - sample.sampled_at <= _FRESH:
            return sample.rpo_seconds if sample.reachable_until <= sample.sampled_at + APART else None
        return self._since(sample.reachable_until)

    def _since(self, moment: datetime) -> float | None:
        """Within what clocks may be apart either of them may be the one that is right."""
        gone = self.at - moment
        return None if gone < -APART else abs(gone.total_seconds())


def exposure(
    settings: Settings, store: Store, found: Catalogue, record: Record, progress: Progress
) -> Exposure:
    """Asked before the order. Of a store without WAL it is the age of its newest backup; where the table of
    samples has none yet, or cannot be asked, it is what the stream of WAL wrote beside it."""
    now = clocks.here()
    if store != "postgres":
        moments = [
            backup.manifest.consistent_at or backup.manifest.started_at
            for backup in found.backups
            if backup.manifest.store == store and backup.state != "expired"
        ]
        return Exposure(now, {}, max(moments, default=None))
    sampled: dict[str, Lost] = {}
    try:
        sampled = record.samples()
    except BiltenError as error:
        told = error.problems[0].what
        progress(f"{told}: what would be lost is as the stream of WAL said it last")
    said, _ = status.read(status.place(settings), now)
    last_words = (
        {}
        if said is None
        else {
            each.bucket: Lost(each.bucket, said.at, each.reachable_until, each.rpo_seconds)
            for each in said.buckets
        }
    )
    # one from before the first heartbeat was stored tells nothing
    telling = {bucket: sample for bucket, sample in sampled.items() if sample.reachable_until is not None}
    return Exposure(now, last_words | telling)
