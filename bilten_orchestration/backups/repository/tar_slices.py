"""A tar stream in slices, each of which can be unpacked alone and beside the others.

pg_basebackup sends one tar. It is cut, at a multiple of its blocks, into slices of bounded size; a slice
that begins inside a file says which file and where in it (`Continues`). So a restore unpacks all slices
in parallel, and a file larger than a slice is no special case: each writes its part in its place.

What is told here is what PostgreSQL writes: plain ustar headers, no extensions (src/port/tar.c). Anything
else is refused, never guessed.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bilten_orchestration.errors import Mismatch

BLOCK = tarfile.BLOCKSIZE
_FILE_MODE, _DIRECTORY_MODE = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class Continues:
    """A slice begins inside this file: with the byte at `offset` of its `size`."""

    path: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Slice:
    """`chunks` are its bytes, to be taken before the next slice is asked for."""

    number: int
    continues: Continues | None
    chunks: Iterator[bytes]


class Slicer:
    """Cuts a tar stream; `kept` are the whole contents of the small files that were asked for by name."""

    def __init__(self, stream: Iterable[bytes], slice_bytes: int, keep: frozenset[str] = frozenset()) -> None:
        if slice_bytes < BLOCK or slice_bytes % BLOCK:
            raise ValueError(f"a slice is a multiple of {BLOCK} bytes")
        self.kept: dict[str, bytearray] = {}
        self.raw_bytes = 0
        self._stream = iter(stream)
        self._slice_bytes = slice_bytes
        self._keep = keep
        self._parser = Parser()
        self._pending = memoryview(b"")

    def __iter__(self) -> Iterator[Slice]:
        number = 0
        while self._fill():
            yield Slice(number, self._parser.continues, self._one())
            number += 1
        self._parser.end()

    def _one(self) -> Iterator[bytes]:
        left = self._slice_bytes
        while left and self._fill():
            piece = self._pending[:left]
            self._pending = self._pending[len(piece) :]
            left -= len(piece)
            self.raw_bytes += len(piece)
            for path, _, data in self._parser.feed(piece):
                if path in self._keep:
                    self.kept.setdefault(path, bytearray()).extend(data)
            yield bytes(piece)

    def _fill(self) -> bool:
        while not self._pending:
            chunk = next(self._stream, None)
            if chunk is None:
                return False
            self._pending = memoryview(chunk)
        return True


@dataclass(frozen=True, slots=True)
class _Member:
    path: str
    size: int


class Parser:
    """Follows a tar stream, whatever the size of the pieces that it comes in."""

    def __init__(
        self,
        continues: Continues | None = None,
        on_entry: Callable[[tarfile.TarInfo], None] = lambda entry: None,
    ) -> None:
        self._on_entry = on_entry
        self._header = b""
        self._member: _Member | None = None
        self._offset = self._padding = 0
        self._zeros = 0
        if continues is not None:
            self._begin(_Member(continues.path, continues.size), continues.offset)

    @property
    def continues(self) -> Continues | None:
        """Where the next byte lies; None between two entries."""
        if self._member is None:
            return None
        return Continues(self._member.path, self._offset, self._member.size)

    def feed(self, piece: memoryview) -> Iterator[tuple[str, int, memoryview]]:
        """Contents of files in this piece: path, offset in the file, bytes."""
        while piece:
            if self._member is not None and self._offset < self._member.size:
                data = piece[: self._member.size - self._offset]
                at = self._offset
                self._offset += len(data)
                piece = piece[len(data) :]
                yield self._member.path, at, data
            elif self._member is not None and self._padding:
                skipped = min(self._padding, len(piece))
                self._padding -= skipped
                piece = piece[skipped:]
            else:
                taken = BLOCK - len(self._header)
                self._header += bytes(piece[:taken])
                piece = piece[taken:]
                if len(self._header) == BLOCK:
                    self._read_header()
            if self._member is not None and self._offset == self._member.size and not self._padding:
                self._member = None

    def end(self) -> None:
        """Raises Mismatch unless the archive has come to its proper end: two blocks of zeros."""
        if self._member is not None or self._header or self._zeros < 2:
            raise _broken("its end is missing")

    def _read_header(self) -> None:
        header, self._header = self._header, b""
        if not any(header):
            self._zeros += 1
            return
        if self._zeros:
            raise _broken("entries behind its end")
        try:
            entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _broken(f"a header that is none: {error}") from None
        if not (entry.isreg() or entry.isdir()) or _unsafe(entry.name):
            raise _broken(f"an entry {entry.name!r} of type {entry.type!r}")
        self._on_entry(entry)
        if entry.isreg():
            self._begin(_Member(_path(entry.name), entry.size), 0)

    def _begin(self, member: _Member, offset: int) -> None:
        padded = -(-member.size // BLOCK) * BLOCK
        self._member, self._offset = member, min(offset, member.size)
        self._padding = padded - max(offset, member.size)


def unpack(chunks: Iterable[bytes], continues: Continues | None, directory: Path) -> int:
    """Write the entries of one slice below `directory`; how many bytes of files there were.

    Other slices may be unpacked at the same time, in whatever order.
    """
    written = 0
    open_file: tuple[str, int] | None = None

    def make(entry: tarfile.TarInfo) -> None:
        place = directory / _path(entry.name)
        if entry.isdir():
            place.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
        else:
            os.close(_open(place))  # an empty file has no contents that would make it

    parser = Parser(continues, make)
    try:
        for chunk in chunks:
            for path, offset, data in parser.feed(memoryview(chunk)):
                if open_file is None or open_file[0] != path:
                    if open_file is not None:
                        os.close(open_file[1])
                    open_file = path, _open(directory / path)
                written += _write_whole(open_file[1], data, offset)
    finally:
        if open_file is not None:
            os.close(open_file[1])
    return written


def _open(place: Path) -> int:
    place.parent.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
    return os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)


def _write_whole(descriptor: int, data: memoryview, offset: int) -> int:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)
    return done


def _path(name: str) -> str:
    return str(PurePosixPath(name))


def _unsafe(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _broken(found: str) -> Mismatch:
    return Mismatch(
        "the tar stream of the backup is not what PostgreSQL writes",
        expected="directories and files below the data directory, and two empty blocks at the end",
        found=found,
        next="repeat the backup; with tablespaces outside the data directory it is not supported",
    )
