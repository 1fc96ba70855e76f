"""What a piece of WAL says of the heartbeats in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.archive import Archive, newest_beat
from bilten_orchestration.backups.wal.heartbeat import Beat, Beats
from bilten_orchestration.backups.wal.ship import Shipper
from tests.integration.backups.wal.conftest import Source

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
