"""ClickHouse's own compression, `compress=1` and `decompress=1` in a URL, as JDBC and Go drivers use it.

A body is a sequence of frames: 16 bytes of checksum (CityHash128 1.0.2 of all that follows), one byte of
method, the size of the frame without its checksum and the size of its data (4 bytes each, little endian), the
data. So the server's CompressedReadBufferBase.cpp and ICompressionCodec.h; the codes of errors are its own.
No other header tells of it.
"""

import struct
from collections.abc import Iterator

import lz4.block
import zstandard
from clickhouse_cityhash.cityhash import CityHash128

from bilten_orchestration.local.clickhouse.engine import EngineError

CANNOT_READ_ALL_DATA = 33
TOO_LARGE_SIZE_COMPRESSED = 39
CHECKSUM_DOESNT_MATCH = 40
CORRUPTED_DATA = 246
CANNOT_DECOMPRESS = 271
UNKNOWN_CODEC = 432

#: A server answers in blocks of that size (DBMS_DEFAULT_BUFFER_SIZE).
BLOCK_BYTES = 1 << 20
#: A frame is held whole, packed and unpacked. A server takes 1 GiB; drivers send 64 KiB to 10 MiB.
LARGEST_FRAME_BYTES = 128 << 20

_CHECKSUM = struct.Struct("<QQ")
_HEADER = struct.Struct("<BII")
_NONE, _LZ4, _ZSTD = 0x02, 0x82, 0x90
_METHODS = {_NONE: "none", _LZ4: "LZ4", _ZSTD: "ZSTD"}
# A byte of LZ4 stands for 255 at most: what says that it is more is refused before memory is taken for it.
_LZ4_RATIO = 255
# 4 bytes of zstd may stand for 128 KiB, so a slice for 32 MiB.
_SLICE_BYTES = 1 << 10


def _framed(method: int, packed: bytes, size: int) -> bytes:
    counted = _HEADER.pack(method, _HEADER.size + len(packed), size) + packed
    return _CHECKSUM.pack(*divmod(CityHash128(counted), 1 << 64)) + counted


def readable(text: bytes) -> bytes:
    """A frame of LZ4 that shows its text, as one run of literals.

    A server compresses errors as it does rows, and some drivers unpack them by status: JDBC not those of 401
    and 403. These look for the code in what they read.
    """
    extra = len(text) - 15
    length = bytes([0xF0]) + b"\xff" * (extra // 255) + bytes([extra % 255]) if extra >= 0 else b""
    return _framed(_LZ4, (length or bytes([len(text) << 4])) + text, len(text))


class Compressor:
    """Rows to frames of LZ4. Nothing is held between calls: what was written can be read at once, and an
    exception that follows stands in a frame of its own."""

    def compress(self, data: bytes) -> bytes:
        view = memoryview(data)
        return b"".join(
            _framed(_LZ4, lz4.block.compress(block, store_size=False), len(block))
            for start in range(0, len(data), BLOCK_BYTES)
            if (block := view[start : start + BLOCK_BYTES])
        )

    def flush(self) -> bytes:
        return b""


class Decompressor:
    """A request's body from frames; `decompress` gives the data of those that are whole.

    Raises EngineError for a frame that is not what it says. Nothing of a frame is given before its checksum
    was right, and no size in it is believed beyond LARGEST_FRAME_BYTES.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def decompress(self, data: bytes) -> Iterator[bytes]:
        self._held += data
        while (frame := self._frame()) is not None:
            yield from _unpacked(*frame)

    def _frame(self) -> tuple[int, bytes, int] | None:
        """Method, packed data and size of the first frame, which is taken off; None until it is whole."""
        start, held = _CHECKSUM.size, self._held
        if len(held) < start + _HEADER.size:
            return None
        method, packed_size, size = _HEADER.unpack_from(held, start)
        _check(method, packed_size, size)
        end = start + packed_size
        if len(held) < end:
            return None
        counted = bytes(memoryview(held)[start:end])
        told, found = bytes(held[:start]), _CHECKSUM.pack(*divmod(CityHash128(counted), 1 << 64))
        if told != found:
            raise EngineError(
                CHECKSUM_DOESNT_MATCH,
                f"Checksum doesn't match: corrupted data. Reference: {told.hex()}. Actual: {found.hex()}."
                f" Size of compressed block: {packed_size} (CHECKSUM_DOESNT_MATCH)",
            )
        del held[:end]
        return method, counted[_HEADER.size :], size

    def finish(self) -> None:
        if self._held:
            raise EngineError(
                CANNOT_READ_ALL_DATA,
                f"Cannot read all data: the body of decompress=1 ends {len(self._held)} bytes into a frame"
                " (CANNOT_READ_ALL_DATA)",
            )


def _check(method: int, packed_size: int, size: int) -> None:
    """What can be known of a frame from its first 25 bytes."""
    if method not in _METHODS:
        raise EngineError(
            UNKNOWN_CODEC,
            f"Unknown codec family code: {method}; this endpoint takes"
            f" {', '.join(f'{name} ({number})' for number, name in _METHODS.items())}. A body without frames"
            " comes without decompress=1 (UNKNOWN_CODEC)",
        )
    for what, found in (("size_compressed_without_checksum", packed_size), ("size_decompressed", size)):
        if found > LARGEST_FRAME_BYTES:
            raise EngineError(
                TOO_LARGE_SIZE_COMPRESSED,
                f"Too large {what}: {found}, at most {LARGEST_FRAME_BYTES} are taken; send smaller blocks, or"
                " the data is corrupted (TOO_LARGE_SIZE_COMPRESSED)",
            )
    if packed_size < _HEADER.size:
        raise EngineError(
            CORRUPTED_DATA,
            f"Can't decompress data: the compressed size ({packed_size}, this should include header size)"
            f" is less than the header size ({_HEADER.size}) (CORRUPTED_DATA)",
        )


def _unpacked(method: int, packed: bytes, size: int) -> Iterator[bytes]:
    """The data of a frame, in pieces."""
    found = 0
    try:
        for piece in _pieces(method, packed, size):
            found += len(piece)
            if found > size:
                break
            yield piece
    except (lz4.block.LZ4BlockError, zstandard.ZstdError, ValueError) as error:
        raise EngineError(
            CANNOT_DECOMPRESS,
            f"Cannot decompress {_METHODS[method]}-encoded data: {error} (CANNOT_DECOMPRESS)",
        ) from None
    if found != size:
        raise EngineError(
            CANNOT_DECOMPRESS,
            f"Cannot decompress {_METHODS[method]}-encoded data: expected {size} bytes, found"
            f" {'more' if found > size else found} (CANNOT_DECOMPRESS)",
        )


def _pieces(method: int, packed: bytes, size: int) -> Iterator[bytes]:
    match method:
        case 0x82:
            if size > _LZ4_RATIO * len(packed):
                raise ValueError(f"{len(packed)} bytes cannot stand for {size}")
            if size:
                yield lz4.block.decompress(packed, uncompressed_size=size)
        case 0x90:
            decoder = zstandard.ZstdDecompressor().decompressobj()
            for start in range(0, len(packed), _SLICE_BYTES):
                yield decoder.decompress(packed[start : start + _SLICE_BYTES])
            if not decoder.eof or decoder.unused_data:
                raise ValueError("it is no single frame of zstd")
        case _:
            yield packed
