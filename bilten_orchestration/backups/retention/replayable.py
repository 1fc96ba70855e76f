"""How much time can be restored to, about: what a preview of retention says would be lost.

From the end of each base backup as far as stored WAL goes without a gap, over timelines too. A timeline is
taken to branch off where its first segment is. `bilten reach` proves; this adds up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.retention.rules import WalObject, segment_number
from bilten_orchestration.backups.wal.positions import lsn

_Segments = dict[int, tuple[int, datetime]]


def minutes(manifests: Iterable[Manifest], wal: Iterable[WalObject], segment_bytes: int) -> float:
    """Minutes of PITR, of all servers together."""
    segments: dict[tuple[str, int], _Segments] = defaultdict(dict)
    for each in wal:
        of_timeline = segments[each.source, each.timeline]
        number = segment_number(each.segment, segment_bytes)
        if number not in of_timeline or of_timeline[number][0] < each.end_offset:
            of_timeline[number] = each.end_offset, each.written_at
    spans: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
    listed = {each.id: each for each in manifests}
    for base in listed.values():
        if base.store == "postgres" and base.wal is not None and (base.parent or base.id) in listed:
            timelines = {line: found for (source, line), found in segments.items() if source == base.source}
            start = lsn(base.wal.end_lsn) // segment_bytes
            until = _until(timelines, base.wal.timeline, start, segment_bytes, set())
            if until is not None and until > base.finished_at:
                spans[base.source].append((base.finished_at, until))
    total = sum((_union(of_source) for of_source in spans.values()), timedelta())
    return total / timedelta(minutes=1)


def _until(
    timelines: dict[int, _Segments], timeline: int, number: int, segment_bytes: int, seen: set[int]
) -> datetime | None:
    seen.add(timeline)
    found = timelines.get(timeline, {})
    start, until = number, None
    while number in found:
        end, at = found[number]
        until = at if until is None else max(at, until)
        if end < segment_bytes:
            break
        number += 1
    for later in sorted(timelines):
        if later > timeline and later not in seen and start <= min(timelines[later]) <= number:
            further = _until(timelines, later, min(timelines[later]), segment_bytes, seen)
            until = further if until is None or (further is not None and further > until) else until
    return until


def _union(spans: Iterable[tuple[datetime, datetime]]) -> timedelta:
    total, reached = timedelta(), None
    for begin, end in sorted(spans):
        if reached is None or begin > reached:
            total += end - begin
        elif end > reached:
            total += end - reached
        reached = end if reached is None else max(reached, end)
    return total
