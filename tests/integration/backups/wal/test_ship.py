"""What is shipped of a segment that is written to, and what a piece of WAL says of the heartbeats in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal import positions, ship
from bilten_orchestration.backups.wal.archive import Archive, newest_beat
from bilten_orchestration.backups.wal.heartbeat import Beat, Beats
from bilten_orchestration.backups.wal.shared import Written
from bilten_orchestration.backups.wal.ship import Shipper
from tests.integration.backups.wal.conftest import Source

PAGE = 8192
SEGMENT = positions.segment(1, positions.SEGMENT_BYTES)


def test_a_service_that_has_just_begun_knows_the_beats_that_it_did_not_send(
    source: Source, tmp_path: Path
) -> None:
    """What is shipped on from a part of a segment replaces it; its time must not be lost with it."""
    beat = Beat(datetime.now(UTC).replace(microsecond=0), positions.SEGMENT_BYTES + 50)
    spool = tmp_path / "spool"
    spool.mkdir()

    def shipped(archive: Archive, beats: Beats, contents: bytes) -> datetime | None:
        (spool / f"{SEGMENT}.partial").write_bytes(contents.ljust(positions.SEGMENT_BYTES, b"\0"))
        done = Shipper([archive], beats).ship([spool], partial=True, written=None)
        assert done.failed is None
        (piece,) = archive.pieces()
        assert newest_beat([piece]) == piece.beat_at
        return piece.beat_at

    with Opened.of(source.settings) as opened:
        archive = Archive(opened.repository, opened.cipher, "7000000000000000000", positions.SEGMENT_BYTES)
        before = Beats()
        before.add(beat)
        assert shipped(archive, before, b"\1" * 100) == beat.at
        assert shipped(archive, Beats(), b"\1" * 200) == beat.at
        after = Beats()
        after.add(Beat(beat.at + timedelta(seconds=5), positions.SEGMENT_BYTES + 250))
        assert shipped(archive, after, b"\1" * 230) == beat.at
        assert shipped(archive, after, b"\1" * 300) == beat.at + timedelta(seconds=5)


def test_a_write_that_passes_a_read_leaves_no_hole(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel does it to a reader that stands still between two pages: what was read of the first is
    from before the write, what is read of the second from after it."""
    spool = tmp_path / "spool"
    spool.mkdir()
    part = spool / f"{SEGMENT}.partial"
    wal = bytes(1 + index % 255 for index in range(6 * PAGE))
    part.write_bytes(wal[:PAGE].ljust(positions.SEGMENT_BYTES, b"\0"))
    passed = []

    def torn(path: Path) -> bytes:
        with path.open("r+b") as file:
            front = file.read(2 * PAGE)
            if len(passed) < 2:  # as fast as it can, but it has to write
                passed.append(path)
                file.seek(len(passed) * 2 * PAGE - PAGE)
                file.write(wal[file.tell() : file.tell() + 2 * PAGE])
                file.seek(2 * PAGE)
            return front + file.read()

    monkeypatch.setattr(ship, "_read", torn)
    with Opened.of(source.settings) as opened:
        archive = Archive(opened.repository, opened.cipher, "7000000000000000001", positions.SEGMENT_BYTES)
        shipper = Shipper([archive], Beats())
        for written in (3, 5):
            done = shipper.ship([spool], partial=True, written=None)
            assert done.failed is None
            (piece,) = archive.pieces()
            assert archive.contents(piece) == wal[: piece.end_offset]
            assert piece.end_offset == written * PAGE
            part.write_bytes(wal[: 5 * PAGE].ljust(positions.SEGMENT_BYTES, b"\0"))
    assert len(passed) == 2


def test_zeros_are_wal_once_the_receiver_says_so_of_this_file(source: Source, tmp_path: Path) -> None:
    """Not by what it said before the file was there: that was of another timeline, or of a lost spool."""
    spool = tmp_path / "spool"
    spool.mkdir()
    part = spool / f"{SEGMENT}.partial"
    position = positions.SEGMENT_BYTES + 4096
    before = Written(position, datetime.now(UTC))
    with Opened.of(source.settings) as opened:
        archive = Archive(opened.repository, opened.cipher, "7000000000000000002", positions.SEGMENT_BYTES)
        shipper = Shipper([archive], Beats())

        def shipped(written: Written) -> int:
            assert shipper.ship([spool], partial=True, written=written).failed is None
            (piece,) = archive.pieces()
            return piece.end_offset

        part.write_bytes((b"\1" * 100).ljust(positions.SEGMENT_BYTES, b"\0"))
        assert shipped(before) == 100
        part.unlink()
        part.write_bytes((b"\1" * 200).ljust(positions.SEGMENT_BYTES, b"\0"))
        assert shipped(before) == 200
        assert shipped(Written(position, datetime.now(UTC))) == 4096
