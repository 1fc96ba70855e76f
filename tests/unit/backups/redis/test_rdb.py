"""What is read of an RDB file, and of what redis-check-rdb says of it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.backups.redis import rdb
from bilten_orchestration.backups.redis.programs import parsed
from bilten_orchestration.errors import Mismatch


def encoded(number: int) -> bytes:
    """As Redis writes it (rdbSaveLen, src/rdb.c)."""
    if number < 1 << 6:
        return bytes([number])
    if number < 1 << 14:
        return bytes([0x40 | number >> 8, number & 0xFF])
    if number < 1 << 32:
        return b"\x80" + struct.pack(">I", number)
    return b"\x81" + struct.pack(">Q", number)


@given(st.one_of(st.integers(0, 1 << 15), st.integers(0, (1 << 64) - 1)), st.binary(max_size=4))
def test_every_size_is_read(number: int, after: bytes) -> None:
    assert rdb.length(encoded(number) + after) == number


@pytest.mark.parametrize("wrong", [b"\xc0\x01", b"\x82\x00", b"\x80\x00", b"\x40"])
def test_what_is_no_size_is_refused(wrong: bytes) -> None:
    with pytest.raises(Mismatch, match="does not accept"):
        rdb.length(wrong)


def test_an_error_is_told_without_the_key() -> None:
    said = (
        "[offset 169] Selecting DB ID 0\n"
        "--- RDB ERROR DETECTED ---\n"
        "[offset 9387] Unexpected EOF reading RDB file\n"
        "[additional info] Reading key 'session:secret'\n"
    )
    assert rdb._why(said) == "[offset 9387] Unexpected EOF reading RDB file"


@pytest.mark.parametrize(("older", "newer"), [("6.2.14", "7.0.1"), ("7.0.15", "7.2.0"), ("7.4.9", "8.0.0")])
def test_versions_are_ordered_by_what_changes_files(older: str, newer: str) -> None:
    assert parsed(older) < parsed(newer)
    assert parsed("7.0.1") == parsed("7.0.15")
