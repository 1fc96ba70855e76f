"""ClickHouse's own frames, against another implementation of them and against frames that lie."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.local.clickhouse import native, protocol
from bilten_orchestration.local.clickhouse.engine import EngineError
from tests.integration.local.clickhouse.frames import (
    KNOWN,
    LZ4,
    NONE,
    ZSTD,
    driver_read,
    driver_written,
    frame,
)

# The end of a column file that ClickHouse 26.9 wrote: one UInt64 of 7, CODEC(LZ4), CODEC(ZSTD), CODEC(NONE).
SERVERS = [
    bytes.fromhex(text)
    for text in (
        "a3807196ffe74e3550e468b8de38c66b821200000008000000800700000000000000",
        "0db7937dce2dc8cff3c5d5755bd59022901a0000000800000028b52ffd20084100000700000000000000",
        "cfbcf64dc980cff85aa152525cce1bb70211000000080000000700000000000000",
    )
]


def read(framed: bytes, cut: int = 1 << 16) -> bytes:
    decoder = native.Decompressor()
    parts = [framed[start : start + cut] for start in range(0, len(framed), cut)]
    data = b"".join(piece for part in parts for piece in decoder.decompress(part))
    decoder.finish()
    return data


def refusal(framed: bytes) -> EngineError:
    with pytest.raises(EngineError) as raised:
        read(framed)
    return raised.value


@given(st.binary(max_size=3000), st.integers(1, 1000), st.integers(1, 4000))
def test_any_data_comes_back_wherever_it_is_cut(data: bytes, times: int, cut: int) -> None:
    data *= times
    framed = native.Compressor().compress(data)
    assert driver_read(framed) == data
    assert read(framed, max(cut, len(framed) // 500 + 1)) == data
    assert read(driver_written(data), max(cut, len(framed) // 500 + 1)) == data


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20])
def test_a_block_holds_a_mebibyte_at_most(size: int) -> None:
    data = random.Random(size).randbytes(size)
    framed = native.Compressor().compress(data)
    sizes = []
    at = 0
    while at < len(framed):
        method, packed, block = struct.unpack_from("<BII", framed, at + 16)
        assert method == LZ4
        sizes.append(block)
        at += 16 + packed
    assert sum(sizes) == size
    assert all(block == 1 << 20 for block in sizes[:-1]) and max(sizes, default=0) <= 1 << 20
    assert driver_read(framed) == data


@pytest.mark.parametrize("framed", SERVERS, ids=["lz4", "zstd", "none"])
def test_what_a_server_wrote_is_read(framed: bytes) -> None:
    assert read(framed) == struct.pack("<Q", 7)


@given(st.binary(max_size=5000))
def test_a_readable_frame_shows_its_text_and_holds_it(text: bytes) -> None:
    framed = native.readable(text)
    assert text in framed
    assert read(framed) == driver_read(framed) == text


def test_all_methods_may_follow_one_another() -> None:
    data = b"as a client likes" * 1000
    framed = (
        frame(NONE, data, len(data))
        + frame(LZ4, lz4.block.compress(data, store_size=False), len(data))
        + frame(ZSTD, zstandard.compress(data), len(data))
    )
    assert read(framed, 7) == data * 3


def test_frames_inside_of_an_encoding_are_both_taken_off() -> None:
    data = b"twice" * 100_000
    body = zstandard.compress(native.Compressor().compress(data))
    decoder = protocol.request_decoder("zstd", framed=True)
    assert decoder is not None
    assert b"".join(decoder.decompress(body)) == data
    decoder.finish()


LZ4_OF_1000 = lz4.block.compress(b"a" * 1000, store_size=False)


@pytest.mark.parametrize(
    ("framed", "code", "words"),
    [
        (frame(0x91, b"abc", 3), 432, "code: 145"),
        (b"SELECT 1 FORMAT JSONCompact", 432, "without decompress=1"),
        (struct.pack("<16xBII", LZ4, (128 << 20) + 1, 5), 39, str((128 << 20) + 1)),
        (struct.pack("<16xBII", LZ4, 20, (128 << 20) + 1), 39, str((128 << 20) + 1)),
        (struct.pack("<16xBII", LZ4, 8, 5), 246, "size (8,"),
        (frame(LZ4, LZ4_OF_1000, 999), 271, "LZ4"),
        (frame(LZ4, LZ4_OF_1000, 1001), 271, "expected 1001 bytes, found 1000"),
        (frame(LZ4, LZ4_OF_1000, 100 << 20), 271, f"cannot stand for {100 << 20}"),
        (frame(LZ4, b"\xff\xff\xff", 5), 271, "LZ4"),
        (frame(ZSTD, zstandard.compress(b"a" * 1000), 999), 271, "expected 999 bytes, found more"),
        (frame(ZSTD, zstandard.compress(b"a" * 1000), 1001), 271, "expected 1001 bytes, found 1000"),
        (frame(ZSTD, zstandard.compress(b"a" * 1000)[:-1], 1000), 271, "ZSTD"),
        (frame(ZSTD, zstandard.compress(b"a" * 1000) + b"x", 1000), 271, "ZSTD"),
        (frame(ZSTD, b"no frame", 8), 271, "ZSTD"),
        (frame(NONE, b"abc", 4), 271, "expected 4 bytes, found 3"),
        (frame(NONE, b"abc", 2), 271, "expected 2 bytes, found more"),
        (frame(NONE, b"abc", 3)[:-1], 33, "27 bytes into a frame"),
        (frame(NONE, b"abc", 3) + b"trailing", 33, "8 bytes into a frame"),
    ],
)
def test_a_frame_that_lies_is_refused_with_the_servers_code(framed: bytes, code: int, words: str) -> None:
    error = refusal(framed)
    assert (error.code, words in error.message) == (code, True), error.message


def test_a_wrong_checksum_is_told_with_what_was_expected_and_found() -> None:
    right = frame(NONE, b"abc", 3)
    error = refusal(bytes(16) + right[16:])
    assert error.code == 40
    assert "Reference: " + bytes(16).hex() in error.message
    assert "Actual: " + right[:16].hex() in error.message


WHOLE = native.Compressor().compress(b"one") + frame(ZSTD, zstandard.compress(b"two" * 99), 297)


@given(
    st.integers(0, len(WHOLE)),
    st.integers(0, len(WHOLE)),
    st.binary(max_size=40),
    st.integers(1, len(WHOLE)),
)
def test_a_broken_body_is_its_data_or_a_refusal(begin: int, end: int, instead: bytes, cut: int) -> None:
    """Never another exception, and never data that was not in it."""
    broken = WHOLE[:begin] + instead + WHOLE[end:]
    try:
        data = read(broken, cut)
    except EngineError as error:
        assert error.code in KNOWN  # noqa: PT017
    else:
        assert data.replace(b"one", b"").replace(b"two", b"") == b""


def test_a_declared_size_takes_no_memory() -> None:
    lies = [
        struct.pack("<16xBII", NONE, 127 << 20, 127 << 20) + bytes(1000),
        frame(LZ4, b"\x10a", 127 << 20),
        frame(ZSTD, zstandard.compress(b"a"), 127 << 20),
    ]
    for lie in lies:
        tracemalloc.start()
        refusal(lie)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 << 20


def test_100_mib_in_many_frames_hold_no_more_than_some_of_them() -> None:
    block = os.urandom(1 << 20)
    compressor, decoder = native.Compressor(), native.Decompressor()
    tracemalloc.start()
    size = 0
    for _ in range(100):
        framed = compressor.compress(block)
        for start in range(0, len(framed), 1 << 16):
            size += sum(map(len, decoder.decompress(framed[start : start + (1 << 16)])))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    decoder.finish()
    assert size == 100 << 20
    assert peak < 16 << 20
