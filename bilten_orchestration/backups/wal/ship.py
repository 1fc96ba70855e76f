"""From the spool into the buckets.

A file leaves the spool only after its object was read back from the first bucket. What a kill leaves: a file
that is stored already (the next pass finds its object, reads it, and goes on), or an object of a part of a
segment beside a larger one (the next pass over that segment removes it).

A segment that is still written to is read twice, because a read and a write of the same file may pass each
other: the first read may see a page and not the one before it, which is written just then. pg_receivewal
writes from the front, so whatever lies before a byte that the first read saw is there for the second.

The second bucket is written to at once as well. While it is away nothing waits for it; what it misses is
copied when it is back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.archive import Archive, Piece, newest_beat
from bilten_orchestration.backups.wal.heartbeat import Beats
from bilten_orchestration.backups.wal.shared import Written
from bilten_orchestration.errors import BiltenError, Mismatch, Problem

_AT_ONCE = 4
_PARTIAL = ".partial"


class SecondWriter(Mismatch):
    """Somebody else writes WAL of the same server into this repository."""


@dataclass(slots=True)
class Shipped:
    """Of one pass: `end` is up to where everything is in the first bucket now, None when nothing was shipped.
    `failed` stopped it; `behind` is why the second bucket has less."""

    segments: int = 0
    bytes: int = 0
    end: int | None = None
    failed: BiltenError | None = None
    behind: BiltenError | None = None
    pieces: list[Piece] = field(default_factory=list)


class Shipper:
    """Ships files of WAL. `archives`: the first bucket, and the second where there is one."""

    def __init__(self, archives: Sequence[Archive], beats: Beats) -> None:
        self._first, *self._others = archives
        self._beats = beats
        self._partial: tuple[Path, int] | None = None
        self._seen: tuple[Path, int, datetime] | None = None

    def ship(self, generations: Sequence[Path], *, partial: bool, written: Written | None) -> Shipped:
        """Everything that is whole, in its order; with `partial` also what there is of the newest segment, up
        to `written` or to its last byte that is not zero.

        Raises SecondWriter. Other failures end the pass and are in the report.
        """
        done = Shipped()
        for number, generation in enumerate(generations):
            files = sorted(generation.iterdir())
            for history in [path for path in files if path.name.endswith(".history")]:
                self._all([history], done)
            self._all([path for path in files if positions.is_segment(path.name)], done)
            last = number + 1 == len(generations)
            for path in [path for path in files if path.name.endswith(_PARTIAL)]:
                if last:
                    self._see(path)
                if done.failed is None and (partial or not last):
                    self._part(path, written if last else None, done)
                    if not last and done.failed is None:
                        path.unlink()  # nobody writes to it any more, and it is stored
            if done.failed is not None:
                break
            if not last and not any(generation.iterdir()):
                generation.rmdir()
        return done

    def _all(self, files: Sequence[Path], done: Shipped) -> None:
        """Side by side, but counted in their order, so that `end` has no gap below it."""
        if done.failed is not None:
            return

        def one(path: Path) -> tuple[Path, Piece | None, BiltenError | None, BiltenError | None]:
            try:
                piece, behind = self._store(path.name, path.read_bytes())
            except BiltenError as error:
                return path, None, error, None
            return path, piece, None, behind

        for begin in range(0, len(files), _AT_ONCE):
            group = files[begin : begin + _AT_ONCE]
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wal-ship") as pool:
                results = list(pool.map(one, group))
            for path, piece, error, behind in results:
                done.behind = done.behind or behind
                if error is not None or piece is None:
                    done.failed = error
                    break
                self._count(piece, done)
                path.unlink()
            if done.failed is not None:
                if isinstance(done.failed, SecondWriter):
                    raise done.failed
                return

    def _part(self, path: Path, written: Written | None, done: Shipped) -> None:
        name = path.name.removesuffix(_PARTIAL)
        try:
            end = len(_read(path).rstrip(b"\0"))
            body = _read(path)
        except FileNotFoundError:
            return  # full meanwhile: it has its whole name now
        # what was not written yet is zeros, and a restore fills up with zeros; but a record may end in zeros
        begin = positions.start_of(name, self._first.segment_bytes)
        if (
            written is not None
            and self._told_of(path, written)
            and begin < written.position <= begin + len(body)
        ):
            end = max(end, written.position - begin)
        if end == 0 or self._partial == (path, end):
            return
        try:
            piece, behind = self._store(name, body[:end])
        except SecondWriter:
            raise
        except BiltenError as error:
            done.failed = error
            return
        done.behind = done.behind or behind
        self._partial = (path, end)
        self._count(piece, done)

    def _see(self, path: Path) -> None:
        """Note since when this very file is there."""
        with suppress(FileNotFoundError):
            number = path.stat().st_ino
            if self._seen is None or self._seen[:2] != (path, number):
                self._seen = (path, number, datetime.now(UTC))

    def _told_of(self, path: Path, written: Written) -> bool:
        """What was told before the file was there is of another one: of the timeline that was left, or of a
        spool that was lost since."""
        return self._seen is not None and self._seen[0] == path and written.told_at > self._seen[2]

    def _count(self, piece: Piece, done: Shipped) -> None:
        done.pieces.append(piece)
        done.bytes += piece.bytes
        if piece.is_segment:
            done.segments += 1
            done.end = piece.end

    def _store(self, name: str, contents: bytes) -> tuple[Piece, BiltenError | None]:
        """The piece in the first bucket, and why it is not in the second."""
        there = list(self._first.pieces(name))
        larger = self._refuse_other_writer(name, contents, there)
        if larger is not None:
            return larger, None
        sealed = self._first.seal(name, contents, self._beat_within(name, contents, there))
        self._first.store(sealed)
        self._first.remove(there)
        behind: BiltenError | None = None
        for other in self._others:
            try:
                other.store(sealed)
                other.remove(piece for piece in other.pieces(name) if piece.name != sealed.piece.name)
            except BiltenError as error:
                behind = error
        return sealed.piece, behind

    def _beat_within(self, name: str, contents: bytes, there: Sequence[Piece]) -> datetime | None:
        """The newest that lies in these contents: of this service, or, when it has just begun, of the one
        before, by the pieces that these contents begin with and replace."""
        if not positions.is_segment(name):
            return None
        begin = positions.start_of(name, self._first.segment_bytes)
        return self._beats.within(begin + len(contents)) or newest_beat(there)

    def _refuse_other_writer(self, name: str, contents: bytes, there: Sequence[Piece]) -> Piece | None:
        """A piece that holds all of `contents` already, if there is one."""
        found: Piece | None = None
        for piece in there:
            if piece.end_offset > len(contents):
                # a spool that was lost is received anew from its beginning: compare when it has grown
                found = piece
                continue
            digest = hashlib.sha256(contents[: piece.end_offset]).hexdigest()
            if not digest.startswith(piece.sha256):
                raise SecondWriter(second_writer(piece, digest))
            if piece.end_offset == len(contents):
                self._first.contents(piece)  # as good as reading it back
                found = piece
        return found


def _read(path: Path) -> bytes:
    return path.read_bytes()


def second_writer(piece: Piece, digest: str) -> Problem:
    return Problem(
        f"somebody else writes WAL of this server: {piece.file} is in the repository with other bytes",
        expected=f"SHA-256 {digest[: len(piece.sha256)]}... of its first {piece.end_offset} bytes, as here",
        found=f"SHA-256 {piece.sha256}...",
        next="nothing more is shipped. A copy of this server (same system identifier, same timeline) runs"
        " `bilten wal stream` into the same bucket: stop it, or give it another bucket; then restart this",
    )
