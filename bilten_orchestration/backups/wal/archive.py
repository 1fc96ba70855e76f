"""WAL in a bucket: one object per piece of a segment, whose name says what it is.

    wal/<system identifier>/<segment MiB>MB/<timeline>/<file>.<end>.<key>.<sha256>.<beat>.<bytes>

<file> is a segment, or a timeline's history. <end> is how much of the segment it holds, from its beginning
(hex): all of it, or what there was when it was shipped. <sha256> is of those bytes (half of it), <beat> the
server's time of the newest heartbeat within or before it (ms, hex; 0 is unknown), <bytes> what is stored.
So a listing tells, without a database and without reading anything, what there is, until when it reaches,
under which key, and whether somebody else wrote the same segment with other bytes.

The name but for <bytes> is authenticated with the contents: a renamed object does not decrypt. Nothing is
ever overwritten. A segment is held in memory while it is shipped (16 MiB, or as the cluster was made).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.compression import BROKEN, compress, decompress
from bilten_orchestration.backups.repository.encryption import Cipher
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.errors import Mismatch, Problem

ROOT = "wal"
_DIGEST_DIGITS = 32
_NAME = re.compile(
    r"(?P<file>[0-9A-F]{24}|[0-9A-F]{8}-history)\.(?P<end>[0-9a-f]{8})\.(?P<key>[0-9a-f-]+)"
    rf"\.(?P<sha256>[0-9a-f]{{{_DIGEST_DIGITS}}})\.(?P<beat>[0-9a-f]{{1,13}})\.(?P<bytes>\d+)"
)
_LEVEL, _THREADS = 1, 1
#: A server further ahead of the object store's clock than S3 lets a client be is not believed.
AHEAD = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Piece:
    """One object. `end_offset` is how many bytes of its file it holds, `beat_at` None when unknown;
    `written_at` is the store's, None of one that was not listed."""

    name: str
    file: str
    end_offset: int
    key_id: str
    sha256: str
    beat_at: datetime | None
    bytes: int
    segment_bytes: int
    written_at: datetime | None = field(default=None, compare=False)

    @property
    def is_segment(self) -> bool:
        return positions.is_segment(self.file)

    @property
    def timeline(self) -> int:
        return positions.timeline_of(self.file)

    @property
    def ahead(self) -> bool:
        """Whether its heartbeat is of a moment that had not come yet when it was stored: the server's clock
        was wrong."""
        beat_at, written_at = self.beat_at, self.written_at
        return beat_at is not None and written_at is not None and beat_at > written_at + AHEAD

    @property
    def whole(self) -> bool:
        return self.end_offset == self.segment_bytes

    @property
    def begin(self) -> int:
        """The position of its first byte."""
        return positions.start_of(self.file, self.segment_bytes)

    @property
    def end(self) -> int:
        """The position behind its last byte."""
        return self.begin + self.end_offset


@dataclass(frozen=True, slots=True)
class Sealed:
    """A piece as it is to be stored, in as many buckets as there are."""

    piece: Piece
    body: bytes


def servers(repository: Repository) -> tuple[tuple[str, int], ...]:
    """System identifier and segment size of every server that has WAL here."""
    found = set()
    for listed in repository.list(f"{ROOT}/"):
        _, identifier, size, _ = listed.name.split("/", 3)
        found.add((identifier, int(size.removesuffix("MB")) << 20))
    return tuple(sorted(found))


class Archive:
    """The WAL of one server in one bucket."""

    def __init__(
        self,
        repository: Repository,
        cipher: Cipher,
        system_identifier: str,
        segment_bytes: int = positions.SEGMENT_BYTES,
    ) -> None:
        self.repository = repository
        self.system_identifier = system_identifier
        self.segment_bytes = segment_bytes
        self._cipher = cipher
        self._root = f"{ROOT}/{system_identifier}/{segment_bytes >> 20}MB"

    def seal(self, file: str, contents: bytes, beat_at: datetime | None) -> Sealed:
        """The object of a file's first bytes (of a segment), or of all (of a history)."""
        digest = hashlib.sha256(contents).hexdigest()[:_DIGEST_DIGITS]
        beat = 0 if beat_at is None else int(beat_at.timestamp() * 1000)
        key_id = self._cipher.ring.current
        stem = f"{_encoded(file)}.{len(contents):08x}.{key_id}.{digest}.{beat:x}"
        packed = compress([contents], "zstd", _LEVEL, _THREADS)
        body = b"".join(self._cipher.encrypt(packed, self._context(file, stem)))
        name = f"{self._place(file)}/{stem}.{len(body)}"
        return Sealed(self._parse(name), body)

    def store(self, sealed: Sealed) -> None:
        """Write it, read it back, compare. There already is success: a kill came between writing and knowing.

        Raises Mismatch when the store keeps other bytes than it was given.
        """
        name = sealed.piece.name
        self.repository.write_small(name, sealed.body)
        if self.repository.read_small(name) != sealed.body:
            raise Mismatch(
                f"the store does not give back what was written to {self.repository.bucket}/{name}",
                expected=f"the same {len(sealed.body)} bytes",
                found="others",
                next="look at the store's log; this segment stays in the spool",
            )

    def remove(self, superseded: Iterable[Piece]) -> None:
        """Parts of a segment of which a larger part is stored now."""
        for piece in superseded:
            self.repository.remove(piece.name)

    def contents(self, piece: Piece) -> bytes:
        """The bytes of WAL. Raises Mismatch: damaged, exchanged, missing, or under a lost key."""
        stem = piece.name.rpartition("/")[2].rpartition(".")[0]
        stored = self.repository.read(piece.name)
        clear = self._cipher.decrypt(stored, self._context(piece.file, stem))
        try:
            found = b"".join(decompress(clear, "zstd"))
        except BROKEN as error:
            raise Mismatch(f"{piece.name} is damaged", found=str(error)) from None
        digest = hashlib.sha256(found).hexdigest()[:_DIGEST_DIGITS]
        if digest != piece.sha256 or len(found) != piece.end_offset:
            raise Mismatch(
                f"{piece.name} does not hold what its name says",
                expected=f"{piece.end_offset} bytes, SHA-256 {piece.sha256}...",
                found=f"{len(found)} bytes, SHA-256 {digest}...",
                next="the second bucket may have it whole",
            )
        return found

    def pieces(self, file: str | None = None, problems: list[Problem] | None = None) -> Iterator[Piece]:
        """All of them in the order of names, or those of one file.

        Objects of a name that nobody here writes, or of another size than their name says, are added to
        `problems`; without it they raise Mismatch. They are never guessed at.
        """
        prefix = f"{self._root}/" if file is None else f"{self._place(file)}/{_encoded(file)}."
        for listed in self.repository.list(prefix):
            try:
                piece = self._parse(listed.name)
                self._refuse_other_size(piece, listed.bytes)
            except Mismatch as error:
                if problems is None:
                    raise
                problems.extend(error.problems)
            else:
                yield replace(piece, written_at=listed.written_at)

    def _refuse_other_size(self, piece: Piece, found: int) -> None:
        if piece.bytes != found:
            raise Mismatch(
                f"{self.repository.bucket}/{piece.name} has another size than its name says",
                expected=f"{piece.bytes} bytes",
                found=f"{found} bytes",
                next="it was cut or replaced: the second bucket may have it whole",
            )

    def grown(self, piece: Piece) -> Piece:
        """The piece that holds most of its file by now: a part of a segment is removed when a larger one is
        stored. The same one when there is no other."""
        return max([piece, *self.pieces(piece.file, problems=[])], key=lambda each: each.end_offset)

    def contents_by_now(self, piece: Piece) -> bytes:
        """Of the piece, or of a larger one that took its place, maybe more than once. Raises Mismatch."""
        while True:
            try:
                return self.contents(piece)
            except Mismatch:
                grown = self.grown(piece)
                if grown == piece:
                    raise
                piece = grown

    def outgrown(self, piece: Piece) -> bool:
        """Whether a larger piece has taken its place."""
        return not piece.whole and self.grown(piece) != piece

    def history_of(self, piece: Piece) -> tuple[positions.Switch, ...]:
        """The ancestors of a timeline, from the piece that is its history. Raises Mismatch."""
        try:
            return positions.read_history(piece.timeline, self.contents(piece).decode())
        except ValueError as error:
            raise Mismatch(f"{piece.name} is no timeline history", found=str(error)) from None

    def _place(self, file: str) -> str:
        return f"{self._root}/{file[:8]}"

    def _context(self, file: str, stem: str) -> dict[str, str]:
        return {"wal": self.system_identifier, "object": f"{self._place(file)}/{stem}"}

    def _parse(self, name: str) -> Piece:
        found = _NAME.fullmatch(name.rpartition("/")[2])
        file = "" if found is None else found["file"].replace("-", ".")
        if found is None or name.rpartition("/")[0] != self._place(file):
            raise Mismatch(
                f"{self.repository.bucket}/{name} is no name that WAL is stored under",
                expected=f"{self._root}/<timeline>/<file>.<end>.<key>.<sha256>.<beat>.<bytes>",
                found=name,
                next="see who wrote it, and remove it",
            )
        milliseconds = int(found["beat"], 16)
        return Piece(
            name,
            file,
            int(found["end"], 16),
            found["key"],
            found["sha256"],
            datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None,
            int(found["bytes"]),
            self.segment_bytes,
        )


def best(pieces: Iterable[Piece]) -> dict[str, Piece]:
    """By file, the piece that holds most."""
    found: dict[str, Piece] = {}
    for piece in pieces:
        if piece.file not in found or found[piece.file].end_offset < piece.end_offset:
            found[piece.file] = piece
    return found


def newest_beat(pieces: Iterable[Piece]) -> datetime | None:
    """Until when the WAL of these reaches, by the server's clock; None when no heartbeat is in it that can be
    believed."""
    return max(
        (piece.beat_at for piece in pieces if piece.beat_at is not None and not piece.ahead), default=None
    )


def _encoded(file: str) -> str:
    """A history's name without the dot that separates fields."""
    return file.replace(".", "-")
