"""What can be restored: per span of time, bucket, timeline and key, proven or assumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.backups.repository.opened import BUCKETS, Opened
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class BucketSpan:
    """Every moment from `begin` to `to` can be restored from `bucket`. It is proven when a drill restored one
    of the `backups` that it may start from; `key_id` are the keys that it needs."""

    begin: datetime
    to: datetime
    bucket: str
    timeline: int
    key_id: str
    proven: bool
    backups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReachReport:
    """`timeline` is the one that production is on. A bucket that cannot be read is a problem, and the other
    one is told nevertheless."""

    timeline: int | None
    spans: tuple[BucketSpan, ...]
    problems: tuple[Problem, ...]


def reach(settings: Settings) -> ReachReport:
    """Of both buckets. Raises Refused for a key file that cannot be read."""
    spans: list[BucketSpan] = []
    problems: list[Problem] = []
    timelines: list[int] = []
    for bucket in BUCKETS:
        with Opened.of(settings, new=False, bucket=bucket) as opened:
            name = opened.repository.bucket
            try:
                past = Past.read(opened)
            except BiltenError as error:
                problems.extend(error.problems)
                continue
        problems.extend(past.problems)
        timelines.append(past.timeline)
        for timeline in past.timelines:
            try:
                found = past.spans(timeline)
            except BiltenError as error:
                problems.extend(error.problems)
                continue
            spans.extend(
                BucketSpan(
                    each.begin, each.to, name, timeline, ", ".join(each.key_ids), each.proven, each.backups
                )
                for each in found
            )
    return ReachReport(max(timelines, default=None), tuple(spans), tuple(problems))
