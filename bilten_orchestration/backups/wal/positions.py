"""LSNs, segments and timelines, as PostgreSQL names them (access/xlog_internal.h, timeline.c there).

A position is a number of bytes since the beginning of WAL, an int here and `XX/XXXXXXXX` for people. A
segment is named by its timeline, the upper 32 bits of its position, and its number within those.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SEGMENT_BYTES = 16 << 20
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_FOUR_GIB = 1 << 32


def lsn(text: str) -> int:
    """Raises ValueError for what is no position."""
    found = _LSN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no LSN")
    return int(found[1], 16) << 32 | int(found[2], 16)


def text(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def segment(timeline: int, position: int, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The name of the segment that holds the byte at `position`."""
    number = position // segment_bytes
    per_id = _FOUR_GIB // segment_bytes
    return f"{timeline:08X}{number // per_id:08X}{number % per_id:08X}"


def is_segment(name: str) -> bool:
    return _SEGMENT.fullmatch(name) is not None


def timeline_of(name: str) -> int:
    """Of a segment or a history file."""
    return int(name[:8], 16)


def start_of(name: str, segment_bytes: int = SEGMENT_BYTES) -> int:
    """The position of a segment's first byte."""
    return int(name[8:16], 16) * _FOUR_GIB + int(name[16:24], 16) * segment_bytes


def history_name(timeline: int) -> str:
    return f"{timeline:08X}.history"


@dataclass(frozen=True, slots=True)
class Switch:
    """A timeline was left at `at`, for the next one in its line."""

    timeline: int
    at: int


def read_history(timeline: int, body: str) -> tuple[Switch, ...]:
    """The ancestors of a timeline, oldest first (timeline.c: id, switch point, reason; # comments).

    Raises ValueError for what PostgreSQL would not write.
    """
    found: list[Switch] = []
    for line in body.splitlines():
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) < 2:
            raise ValueError(f"a line of two words or more, not {line!r}")
        switch = Switch(int(words[0]), lsn(words[1]))
        if found and switch.timeline <= found[-1].timeline:
            raise ValueError(f"timelines that rise, not {switch.timeline} after {found[-1].timeline}")
        found.append(switch)
    if found and found[-1].timeline >= timeline:
        raise ValueError(f"ancestors of {timeline}, not {found[-1].timeline}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Span:
    """A timeline is the one that counts from `begin` (inclusive) to `end` (exclusive; None: to its end)."""

    timeline: int
    begin: int
    end: int | None

    def holds(self, position: int) -> bool:
        return self.begin <= position and (self.end is None or position < self.end)


def path_to(timeline: int, ancestors: Sequence[Switch]) -> tuple[Span, ...]:
    """Which timeline counts where, on the way to `timeline`."""
    spans: list[Span] = []
    begin = 0
    for switch in ancestors:
        spans.append(Span(switch.timeline, begin, switch.at))
        begin = switch.at
    spans.append(Span(timeline, begin, None))
    return tuple(spans)
