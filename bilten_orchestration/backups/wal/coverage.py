"""Which positions a path of timelines has in a bucket, and where it has gaps. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.archive import Piece
from bilten_orchestration.backups.wal.positions import Span

#: Clocks are set right by as much without a word: a server that took over, a step of NTP.
STEP = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Gap:
    """WAL that is not there: from `begin` to `end` of a timeline, `segments` in all."""

    timeline: int
    begin: int
    end: int
    segments: int

    def __str__(self) -> str:
        names = "1 segment" if self.segments == 1 else f"{self.segments} segments"
        return (
            f"{positions.text(self.begin)} to {positions.text(self.end)}, timeline {self.timeline}, {names}"
        )


@dataclass(frozen=True, slots=True)
class Run:
    """WAL without a gap, from `begin` to `end`; `pieces` in their order, each as much as there is of its
    segment."""

    begin: int
    end: int
    pieces: tuple[Piece, ...]

    @property
    def beat_at(self) -> datetime | None:
        """A restore can stop at any moment until this heartbeat; None when there is none.

        Recovery stops at the first commit behind its target. Where the server's clock was ahead, and was set
        back, it stops there for every later moment: none behind the step can be reached from before it.
        """
        beats = [(piece.beat_at, piece.ahead) for piece in self.pieces if piece.beat_at is not None]
        lowest_behind = list(accumulate((at for at, _ in reversed(beats)), min))[::-1]
        for number, (at, ahead) in enumerate(beats):
            if ahead or at > lowest_behind[number] + STEP:
                return max((at for at, _ in beats[:number]), default=None)
        return max((at for at, _ in beats), default=None)

    @property
    def last_beat_at(self) -> datetime | None:
        """Of the heartbeat that recovery to its end replays last, whatever clock it was of."""
        return next((piece.beat_at for piece in reversed(self.pieces) if piece.beat_at is not None), None)


def needed(path: Sequence[Span], begin: int, segment_bytes: int) -> Iterator[tuple[str, int]]:
    """The segments of a path from the position `begin` on, without end: name, position of the first byte.

    The segment in which a timeline was left for another is that of the newer one, which begins with a copy of
    the older one's; recovery reads it first (XLogFileReadAnyTLI in xlogrecovery.c).
    """
    for span in path:
        if span.end is not None and span.end <= begin:
            continue
        at = max(begin, span.begin) // segment_bytes * segment_bytes
        while span.end is None or at + segment_bytes <= span.end:
            yield positions.segment(span.timeline, at, segment_bytes), at
            at += segment_bytes


def run_from(best: Mapping[str, Piece], path: Sequence[Span], begin: int, segment_bytes: int) -> Run:
    """As far as it goes from `begin` on without a gap. It is empty when the very first segment is missing."""
    pieces: list[Piece] = []
    for name, _ in needed(path, begin, segment_bytes):
        piece = best.get(name)
        if piece is None:
            break
        pieces.append(piece)
        if not piece.whole:
            break  # what comes behind a piece of a segment is not there yet
    return Run(begin, max(begin, pieces[-1].end) if pieces else begin, tuple(pieces))


def gaps(
    best: Mapping[str, Piece], path: Sequence[Span], begin: int, end: int, segment_bytes: int
) -> tuple[Gap, ...]:
    """What is missing between two positions, neighbours together."""
    found: list[Gap] = []
    for name, at in needed(path, begin, segment_bytes):
        if at >= end:
            break
        upto = min(end, at + segment_bytes)
        piece = best.get(name)
        first = max(begin, at if piece is None else piece.end)
        if first >= upto:
            continue
        timeline = positions.timeline_of(name)
        if found and found[-1].end == first and found[-1].timeline == timeline:
            before = found.pop()
            found.append(Gap(timeline, before.begin, upto, before.segments + 1))
        else:
            found.append(Gap(timeline, first, upto, 1))
    return tuple(found)
