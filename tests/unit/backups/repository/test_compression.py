"""Streams are compressed and come back, in bounded pieces, whole or with an error."""

from __future__ import annotations

import random
import zlib

import pytest
import zstandard

from bilten_orchestration.backups.repository.compression import Codec, compress, decompress

CODECS: list[Codec] = ["zstd", "gzip"]
WORDS = b"".join(b"order %d of event %d\n" % (n, n % 97) for n in range(60_000))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("body", [b"", b"x", WORDS, random.Random(1).randbytes(3 << 20)])
def test_round_trip(codec: Codec, threads: int, body: bytes) -> None:
    packed = list(compress([body[:1_000], body[1_000:]], codec, 1, threads))
    assert b"".join(decompress(packed, codec)) == body
    one_by_one = (bytes([byte]) for byte in b"".join(packed)[:5_000])
    if sum(map(len, packed)) <= 5_000:
        assert b"".join(decompress(one_by_one, codec)) == body


@pytest.mark.parametrize("codec", CODECS)
def test_a_small_object_that_becomes_large_comes_in_pieces(codec: Codec) -> None:
    packed = b"".join(compress((bytes(1 << 20) for _ in range(64)), codec, 1, 1))
    assert len(packed) < 1 << 20
    sizes = [len(piece) for piece in decompress([packed], codec)]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize("codec", CODECS)
def test_changed_bytes_are_noticed(codec: Codec) -> None:
    """Encryption notices them first; this holds without it."""
    packed = bytearray(b"".join(compress([WORDS], codec, 1, 1)))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises((zstandard.ZstdError, zlib.error)):
        list(decompress([bytes(packed)], codec))
