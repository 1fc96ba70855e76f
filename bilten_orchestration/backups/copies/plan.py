"""What the second bucket lacks: found by listing both, nothing is read but the first one's catalogue.

Backups are compared by their manifests, so that objects of a backup that is not listed (it is being taken,
or was killed) are none of the copy's business; all else (WAL, audits, drills, the journal) by its names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.bucket import Listed, Repository
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.errors import Problem

#: Archives of partitions (partitions/archives.py): what has a document is copied, its document last.
ARCHIVES = "archives/"
_DOCUMENT = "/archive.json"
# what a manifest is not needed for
LOOSE = ("audits/", "drills/", "journal/", "wal/")
RUN_EVERY = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Piece:
    """An object of the first bucket. `sha256` (hex) as the signed manifest tells it, None where none does."""

    name: str
    bytes: int
    written_at: datetime
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What the copy lacks of one backup. `documents` are its manifest, first, and its marks."""

    manifest: Manifest
    objects: tuple[Piece, ...]
    documents: tuple[Piece, ...]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return (*self.objects, *self.documents)


@dataclass(frozen=True, slots=True)
class Lag:
    """What is not copied yet; `seconds` is the age of the oldest of it, 0 where there is nothing."""

    objects: int
    bytes: int
    seconds: float

    @classmethod
    def of(cls, pieces: Iterable[Piece], now: datetime) -> Lag:
        left = list(pieces)
        oldest = min((piece.written_at for piece in left), default=now)
        return cls(len(left), sum(piece.bytes for piece in left), max(0.0, (now - oldest).total_seconds()))


@dataclass(frozen=True, slots=True)
class Comparison:
    """`batches` by start of their backups, `loose` by name; `archives` are what lacks of each archive of a
    partition, its document last; `listed` are ids that the copy lists already;
    `due` is what is there and to be read again; `problems` are objects that never become equal by copying.
    """

    batches: tuple[Batch, ...]
    loose: tuple[Piece, ...]
    archives: tuple[tuple[Piece, ...], ...]
    listed: frozenset[str]
    due: tuple[Piece, ...]
    present_objects: int
    present_bytes: int
    problems: tuple[Problem, ...]

    @property
    def pieces(self) -> Iterator[Piece]:
        yield from self.loose
        for archive in self.archives:
            yield from archive
        for batch in self.batches:
            yield from batch.pieces

    def lag(self, now: datetime) -> Lag:
        return Lag.of(self.pieces, now)


@dataclass(frozen=True, slots=True)
class Reread:
    """Which objects of the copy are read again: all, or those whose turn it is within `days` (0: none).

    The turn is told by name and clock, so nothing has to be remembered; a run that is missed is made up for
    one round later.
    """

    days: int
    now: datetime
    all: bool = False

    def due(self, name: str) -> bool:
        if self.all or not self.days:
            return self.all
        turns = timedelta(days=self.days) // RUN_EVERY
        turn = int(self.now.timestamp() // RUN_EVERY.total_seconds())
        return zlib.crc32(name.encode()) % turns == turn % turns


def compare(first: Repository, copy: Repository, ring: KeyRing, reread: Reread) -> Comparison:
    """Raises StoreUnavailable or AccessRefused, of either store."""
    documents: dict[str, list[Listed]] = {}
    for each in first.list(f"{catalogue.ROOT}/"):
        documents.setdefault(each.name.rpartition("/")[0], []).append(each)
    found = catalogue.read(first, ring)
    there = {each.name: each.bytes for each in copy.list(f"{catalogue.ROOT}/")}
    there |= {each.name: each.bytes for each in copy.list("objects/")}
    seen = _Seen(reread)
    seen.problems.extend(found.problems)
    batches = []
    for backup in found.backups:
        if backup.state == "expired":
            continue
        batch = _batch(backup, documents, there, seen)
        if batch.pieces:
            batches.append(batch)
    loose = [piece for prefix in LOOSE for piece in _loose(first, copy, prefix, seen)]
    archived = _archived(first, copy, seen)
    return Comparison(
        tuple(batches),
        tuple(loose),
        archived,
        listed_in(there),
        tuple(seen.due),
        seen.objects,
        seen.bytes,
        tuple(seen.problems),
    )


def _archived(first: Repository, copy: Repository, seen: _Seen) -> tuple[tuple[Piece, ...], ...]:
    """Objects without a document belong to an archive that is being made, or was killed: none of the copy's
    business."""
    places: dict[str, list[Listed]] = {}
    for each in first.list(ARCHIVES):
        places.setdefault(each.name.rpartition("/")[0], []).append(each)
    there = {each.name: each.bytes for each in copy.list(ARCHIVES)}
    found = []
    for listed in places.values():
        document = next((each for each in listed if each.name.endswith(_DOCUMENT)), None)
        if document is None:
            continue
        # before its document was written there was nothing to copy
        pieces = [
            Piece(each.name, each.bytes, document.written_at)
            for each in sorted(listed, key=lambda each: (each is document, each.name))
        ]
        if missing := tuple(piece for piece in pieces if seen.missing(piece, there.get(piece.name))):
            found.append(missing)
    return tuple(found)


def missing_below(first: Repository, copy: Repository, prefix: str) -> tuple[Piece, ...]:
    """Of one of LOOSE."""
    nothing = _Seen(Reread(0, datetime.now(UTC)))
    return tuple(_loose(first, copy, prefix, nothing))


def listed_in(names: Iterable[str]) -> frozenset[str]:
    """Ids of the backups whose manifests are among these names."""
    return frozenset(name.split("/")[-2] for name in names if name.endswith("/manifest.json"))


class _Seen:
    """What is in the copy already, counted."""

    def __init__(self, reread: Reread) -> None:
        self._reread = reread
        self.objects = self.bytes = 0
        self.due: list[Piece] = []
        self.problems: list[Problem] = []

    def missing(self, piece: Piece, there: int | None) -> bool:
        if there is None:
            return True
        if there != piece.bytes:
            self.problems.append(other(piece.name, f"{piece.bytes} bytes", f"{there} bytes"))
            return False
        self.objects += 1
        self.bytes += piece.bytes
        if self._reread.due(piece.name):
            self.due.append(piece)
        return False


def _batch(backup: Backup, documents: dict[str, list[Listed]], there: dict[str, int], seen: _Seen) -> Batch:
    manifest = backup.manifest
    place = catalogue.place_of(manifest.store, manifest.id)
    names = sorted(documents[place], key=lambda each: (not each.name.endswith("/manifest.json"), each.name))
    # before its manifest was written there was nothing to copy
    written_at = names[0].written_at
    objects = [
        Piece(each.name, each.bytes, written_at, each.sha256)
        for each in (*manifest.objects, *manifest.others.values())
    ]
    papers = [Piece(each.name, each.bytes, each.written_at) for each in names]
    return Batch(
        manifest,
        tuple(piece for piece in objects if seen.missing(piece, there.get(piece.name))),
        tuple(piece for piece in papers if seen.missing(piece, there.get(piece.name))),
    )


def _loose(first: Repository, copy: Repository, prefix: str, seen: _Seen) -> Iterator[Piece]:
    """Both listings side by side, in the order of names: memory does not grow with them."""
    theirs = copy.list(prefix)
    other_ = next(theirs, None)
    for each in first.list(prefix):
        while other_ is not None and other_.name < each.name:
            other_ = next(theirs, None)
        same = other_ is not None and other_.name == each.name
        piece = Piece(each.name, each.bytes, each.written_at)
        if seen.missing(piece, other_.bytes if same and other_ is not None else None):
            yield piece


def other(name: str, expected: str, found: str) -> Problem:
    """The copy has other bytes under that name."""
    return Problem(
        f"the second bucket has another {name} than the first",
        expected=expected,
        found=found,
        next="nothing was replaced: see which of the two is whole (bilten backup verify ID [--bucket copy]),"
        " remove the other one by hand, and run `bilten backup copy`",
    )
