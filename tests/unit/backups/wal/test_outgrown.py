"""A part of a segment that is replaced while it is read, more than once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.encryption import Cipher
from bilten_orchestration.backups.wal.archive import Archive, Piece
from bilten_orchestration.errors import Mismatch, Problem

FILE = "000000010000000000000023"


def _piece(end: int) -> Piece:
    return Piece(f"wal/{end}", FILE, end, "key", "0", None, 1, 16 << 20)


class Shipped(Archive):
    """Each time that somebody comes too late, the next part is there, until the `last`."""

    def __init__(self, last: int) -> None:
        super().__init__(cast(Repository, None), cast(Cipher, None), "7")
        self.newest, self.last = 1, last

    def contents(self, piece: Piece) -> bytes:
        if piece.end_offset == self.last:
            return b"wal"
        self.newest = min(self.newest + 1, self.last)
        raise Mismatch(f"{piece.name} is not there", expected="it", found="NoSuchKey", next="look again")

    def pieces(self, file: str | None = None, problems: list[Problem] | None = None) -> Iterator[Piece]:
        yield _piece(self.newest)


def test_the_largest_is_read_in_the_end() -> None:
    assert Shipped(4).contents_by_now(_piece(1)) == b"wal"


def test_one_that_is_gone_for_good_is_told() -> None:
    shipped = Shipped(4)
    shipped.last, shipped.newest = 9, 9
    gone = _piece(10)
    with pytest.raises(Mismatch, match="wal/10 is not there"):
        shipped.contents_by_now(gone)
