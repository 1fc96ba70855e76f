"""Compression of what goes into the repository, as streams."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Literal, Protocol

import zstandard

from bilten_orchestration.backups.repository.chunks import as_file

BROKEN = (zstandard.ZstdError, zlib.error)
Codec = Literal["zstd", "gzip"]
_READ_BYTES = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS  # a gzip header and its checksum, not zlib's


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def compress(chunks: Iterable[bytes], codec: Codec, level: int, threads: int) -> Iterator[bytes]:
    """One frame with a checksum. `threads` count for zstd alone."""
    if codec == "zstd":
        # one thread works in the caller's; more hold a job of some MiB each
        options = zstandard.ZstdCompressionParameters.from_level(
            level, threads=threads if threads > 1 else 0, write_checksum=True
        )
        packer: _Packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    else:
        packer = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


def decompress(chunks: Iterable[bytes], codec: Codec) -> Iterator[bytes]:
    """In pieces of at most 1 MiB, whatever the ratio. Raises one of BROKEN for what was not compressed."""
    if codec == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(as_file(chunks), read_size=_READ_BYTES) as reader:
            while piece := reader.read(_READ_BYTES):
                yield piece
        return
    unpacker = zlib.decompressobj(_GZIP)
    for chunk in chunks:
        left = chunk
        while left:
            if piece := unpacker.decompress(left, _READ_BYTES):
                yield piece
            left = unpacker.unconsumed_tail
    yield unpacker.flush()
