"""What a set of pieces covers, on timelines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.backups.wal import coverage, positions
from bilten_orchestration.backups.wal.archive import Piece, best, newest_beat
from bilten_orchestration.backups.wal.coverage import Gap
from bilten_orchestration.backups.wal.positions import Switch, path_to

SIZE = 1 << 20
BEGAN = datetime(2026, 11, 21, tzinfo=UTC)


def piece(timeline: int, number: int, part: float = 1.0) -> Piece:
    """The first `part` of segment `number`; heartbeats are as many seconds apart as segments."""
    file = positions.segment(timeline, number * SIZE, SIZE)
    beat = BEGAN + timedelta(seconds=number)
    return Piece(f"wal/{file}", file, int(SIZE * part), "key", "0" * 32, beat, 1, SIZE)


def test_a_run_ends_where_a_segment_is_missing_or_begun() -> None:
    have = best([piece(1, 3), piece(1, 4), piece(1, 5, 0.25), piece(1, 5, 0.5), piece(1, 6)])
    run = coverage.run_from(have, path_to(1, ()), 3 * SIZE + 40, SIZE)
    assert [each.end_offset for each in run.pieces] == [SIZE, SIZE, SIZE // 2]
    assert run.end == 5 * SIZE + SIZE // 2
    assert run.beat_at == BEGAN + timedelta(seconds=5)


def test_nothing_at_the_beginning_is_an_empty_run() -> None:
    run = coverage.run_from(best([piece(1, 4)]), path_to(1, ()), 3 * SIZE, SIZE)
    assert (run.pieces, run.beat_at, run.begin, run.end) == ((), None, 3 * SIZE, 3 * SIZE)


def _clocked(*minutes: float, stored: float | None = None) -> coverage.Run:
    """Segments whose newest heartbeats are of these minutes; `stored` is when, by the store."""
    written_at = None if stored is None else BEGAN + timedelta(minutes=stored)
    pieces = tuple(
        replace(piece(1, number), beat_at=BEGAN + timedelta(minutes=at), written_at=written_at)
        for number, at in enumerate(minutes)
    )
    return coverage.Run(0, len(pieces) * SIZE, pieces)


YEAR = 365 * 24 * 60


@pytest.mark.parametrize(
    ("minutes", "until"),
    [
        ((0, 1, 2), 2),
        ((0, 1, 1 + YEAR, 2 + YEAR, 3), 1),  # a year ahead, and back
        ((0, 1, 1 + YEAR, 4, 5 + YEAR), 1),
        ((YEAR, 1, 2), None),
        ((0, 5, 4.5, 6), 6),  # half a minute back is no jump
    ],
)
def test_no_moment_behind_a_clock_that_was_set_back(minutes: tuple[float, ...], until: float | None) -> None:
    """Recovery stops at the first commit behind its target: of the time that was not."""
    run = _clocked(*minutes)
    assert run.beat_at == (None if until is None else BEGAN + timedelta(minutes=until))
    assert run.last_beat_at == BEGAN + timedelta(minutes=minutes[-1])


def test_a_clock_that_is_still_ahead_is_not_believed() -> None:
    """The object store's own time of each object tells."""
    assert _clocked(0, 1, 1 + YEAR, stored=2).beat_at == BEGAN + timedelta(minutes=1)
    assert _clocked(0, 1, 16, stored=2).beat_at == BEGAN + timedelta(minutes=16)
    assert newest_beat(_clocked(0, 1, 1 + YEAR, stored=2).pieces) == BEGAN + timedelta(minutes=1)
    assert newest_beat(_clocked(1 + YEAR, stored=2).pieces) is None


def test_over_a_switch_the_newer_timeline_counts() -> None:
    """Timeline 1 was left in the middle of segment 5; what it wrote there later belongs to nobody's past."""
    path = path_to(2, [Switch(1, 5 * SIZE + SIZE // 2)])
    have = best([piece(1, 4), piece(1, 5), piece(1, 6), piece(2, 5), piece(2, 6, 0.1)])
    run = coverage.run_from(have, path, 4 * SIZE, SIZE)
    assert [each.file[:8] for each in run.pieces] == ["00000001", "00000002", "00000002"]
    assert coverage.gaps(have, path, 4 * SIZE, 7 * SIZE, SIZE) == (
        Gap(2, 6 * SIZE + SIZE // 10, 7 * SIZE, 1),
    )


def test_two_switches_in_one_segment() -> None:
    path = path_to(3, [Switch(1, 5 * SIZE + 100), Switch(2, 5 * SIZE + 200)])
    run = coverage.run_from(best([piece(1, 4), piece(3, 5)]), path, 4 * SIZE, SIZE)
    assert [each.timeline for each in run.pieces] == [1, 3]


def test_gaps_are_told_together() -> None:
    have = best([piece(1, 3), piece(1, 6)])
    assert coverage.gaps(have, path_to(1, ()), 3 * SIZE, 8 * SIZE, SIZE) == (
        Gap(1, 4 * SIZE, 6 * SIZE, 2),
        Gap(1, 7 * SIZE, 8 * SIZE, 1),
    )
    assert str(Gap(1, 4 * SIZE, 6 * SIZE, 2)) == "0/400000 to 0/600000, timeline 1, 2 segments"


@given(
    have=st.sets(st.integers(0, 30)),
    begin=st.integers(0, 25 * SIZE),
    length=st.integers(1, 5 * SIZE),
    left_at=st.integers(1, 30 * SIZE),
)
def test_a_run_without_a_gap_is_what_has_no_gaps(
    have: set[int], begin: int, length: int, left_at: int
) -> None:
    """Both are told by the same pieces, and each says what the other does."""
    path = path_to(2, [Switch(1, left_at)])
    pieces = best([piece(1 if (n + 1) * SIZE <= left_at else 2, n) for n in have])
    run = coverage.run_from(pieces, path, begin, SIZE)
    missing = coverage.gaps(pieces, path, begin, begin + length, SIZE)
    assert (missing == ()) == (run.end >= begin + length)
    if missing and run.pieces:
        assert missing[0].begin == run.end
    assert sum(gap.end - gap.begin for gap in missing) <= length
