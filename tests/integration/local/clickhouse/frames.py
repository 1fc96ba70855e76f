"""ClickHouse's own frames by the TCP driver's code, and by hand."""

from __future__ import annotations

import io
import struct

from clickhouse_cityhash.cityhash import CityHash128
from clickhouse_driver.compression import get_decompressor_cls
from clickhouse_driver.compression.lz4 import Compressor as DriverCompressor
from clickhouse_driver.reader import read_binary_uint8, read_binary_uint128

NONE, LZ4, ZSTD = 0x02, 0x82, 0x90
#: Codes with which a body is refused that is not in frames.
KNOWN = {33, 39, 40, 246, 271, 432}


def frame(method: int, packed: bytes, size: int) -> bytes:
    """A frame made by hand; its checksum is right, whatever it says."""
    counted = struct.pack("<BII", method, 9 + len(packed), size) + packed
    return struct.pack("<QQ", *divmod(CityHash128(counted), 1 << 64)) + counted


def driver_read(framed: bytes) -> bytes:
    """What clickhouse-driver makes of it."""
    stream, data = io.BytesIO(framed), b""
    while stream.tell() < len(framed):
        checksum, method = read_binary_uint128(stream), read_binary_uint8(stream)
        data += get_decompressor_cls(method)(stream).get_decompressed_data(method, checksum, 1)
    return data


def driver_written(data: bytes) -> bytes:
    """A frame as clickhouse-driver makes it."""
    compressor = DriverCompressor()
    compressor.write(data)
    counted = bytes([compressor.method_byte]) + compressor.get_compressed_data(1)
    return struct.pack("<QQ", *divmod(CityHash128(counted), 1 << 64)) + counted
