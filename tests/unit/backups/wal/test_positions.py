"""Positions as PostgreSQL names them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.positions import Span, Switch

SIZES = st.sampled_from([1 << 20, 16 << 20, 64 << 20, 1 << 30])


@pytest.mark.parametrize(
    ("position", "said", "segment"),
    [
        (0x1000000, "0/1000000", "000000010000000000000001"),
        (0x1_00000000, "1/0", "000000010000000100000000"),
        (0xFF000000, "0/FF000000", "0000000100000000000000FF"),
        (0x2A_FE000028, "2A/FE000028", "000000010000002A000000FE"),
    ],
)
def test_as_postgresql_writes_them(position: int, said: str, segment: str) -> None:
    assert positions.text(position) == said
    assert positions.lsn(said) == position
    assert positions.segment(1, position) == segment


@given(position=st.integers(0, 2**62), timeline=st.integers(1, 2**31), size=SIZES)
def test_a_segment_begins_at_or_before_what_it_holds(position: int, timeline: int, size: int) -> None:
    name = positions.segment(timeline, position, size)
    begin = positions.start_of(name, size)
    assert begin <= position < begin + size
    assert positions.timeline_of(name) == timeline
    assert positions.is_segment(name)


@pytest.mark.parametrize("bad", ["", "0", "0/", "/0", "0/123456789", "x/1", "0/1 "])
def test_what_is_no_position(bad: str) -> None:
    with pytest.raises(ValueError, match="is no LSN"):
        positions.lsn(bad)


def test_a_history() -> None:
    body = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000100\tbefore 2026-11-21 10:00:00+00\n"
    found = positions.read_history(3, body)
    assert found == (Switch(1, 0x3000000), Switch(2, 0x5000100))
    assert positions.path_to(3, found) == (
        Span(1, 0, 0x3000000),
        Span(2, 0x3000000, 0x5000100),
        Span(3, 0x5000100, None),
    )


@pytest.mark.parametrize("bad", ["1\n", "2\t0/1\n1\t0/2\n", "3\t0/1\n", "one\t0/1\n", "1\tnowhere\n"])
def test_what_is_no_history(bad: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        positions.read_history(3, bad)
