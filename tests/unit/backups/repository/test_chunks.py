"""Stages overlap, stop when nobody takes, and pass errors on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from bilten_orchestration.backups.repository.chunks import ahead, as_file, cut


def test_chunks_come_in_order_and_the_producer_is_bounded() -> None:
    made = 0
    waits = threading.Event()

    def produce() -> Iterator[bytes]:
        nonlocal made
        for number in range(100):
            made += 1
            if number == 3:
                waits.set()
            yield bytes([number])

    with ahead(produce(), 3) as chunks:
        assert waits.wait(10)  # it runs before anybody takes
        assert made == 4
        assert b"".join(chunks) == bytes(range(100))


def test_an_error_comes_where_its_chunk_would_have_come() -> None:
    def breaks() -> Iterator[bytes]:
        yield b"a"
        raise OSError("No space left on device")

    with ahead(breaks()) as chunks:
        assert next(chunks) == b"a"
        with pytest.raises(OSError, match="No space left"):
            next(chunks)


def test_who_leaves_early_ends_the_producer() -> None:
    ended = threading.Event()

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ended.set()

    def fail(chunks: Iterator[bytes]) -> None:
        next(chunks)
        raise RuntimeError("upload failed")

    source = endless()
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="upload failed"), ahead(source, 2) as chunks:
        fail(chunks)
    assert threading.active_count() == before
    source.close()
    assert ended.is_set()


@pytest.mark.parametrize("size", [1, 3, 7, 100, -1])
def test_a_readable_gives_exactly_what_is_asked_for(size: int) -> None:
    file = as_file([b"abc", b"", b"defgh", b"i"])
    parts = [file.read(size)]
    while parts[-1]:
        parts.append(file.read(size))
    assert b"".join(parts) == b"abcdefghi"
    assert size < 0 or {len(part) for part in parts[:-2]} <= {size}
    assert file.read(0) == b"" == file.read(-1)


@pytest.mark.parametrize("sizes", [[], [0], [3], [4], [5, 0, 7], [1] * 9, [20]])
def test_a_stream_is_cut_whatever_its_chunks(sizes: list[int]) -> None:
    numbers = iter(range(100))
    chunks = [bytes(next(numbers) for _ in range(size)) for size in sizes]
    pieces = [b"".join(piece) for piece in cut(chunks, 4)]
    assert b"".join(pieces) == b"".join(chunks)
    assert [len(piece) for piece in pieces[:-1]] == [4] * (len(pieces) - 1)
    assert all(pieces)
