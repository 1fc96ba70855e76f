"""Stages overlap, stop when nobody takes, and pass errors on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import pytest

from bilten_orchestration.backups.repository.chunks import ahead, as_file, cut, overlapping


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


def test_a_piece_is_read_while_the_one_before_it_ends() -> None:
    second_came = threading.Event()

    def work(number: int, chunks: Iterable[bytes]) -> bytes:
        body = b"".join(chunks)
        if number == 1:
            second_came.set()
        if number == 0:
            assert second_came.wait(10), "the second piece waits for the end of the first"
        return body

    pieces = ((number, iter([bytes([number])] * 20)) for number in range(5))
    assert overlapping(pieces, work) == [bytes([number]) * 20 for number in range(5)]


def test_a_stream_that_breaks_never_looks_like_one_that_ended() -> None:
    seen: list[object] = []

    def work(number: int, chunks: Iterable[bytes]) -> None:
        try:
            seen.append(b"".join(chunks))
        except OSError as error:
            seen.append(str(error))
            raise

    def broken() -> Iterator[bytes]:
        yield b"a"
        raise OSError("pg_basebackup ended with exit code 1")

    with pytest.raises(OSError, match="exit code 1"):
        overlapping(((number, chunks) for number, chunks in enumerate(([b"whole"], broken()))), work)
    assert sorted(map(str, seen)) == ["b'whole'", "pg_basebackup ended with exit code 1"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_work_that_fails_ends_the_reading(number: int) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b"a"

    def work(at: int, chunks: Iterable[bytes]) -> None:
        if at == number:
            next(iter(chunks))
            raise OSError("the store is away")
        b"".join(chunks)

    pieces = ((at, iter([b"a"]) if at < number else endless()) for at in range(4))
    with pytest.raises(OSError, match="the store is away"):
        overlapping(pieces, work)
    assert read < 20


def test_an_end_that_fails_ends_the_reading_of_the_next() -> None:
    def work(number: int, chunks: Iterable[bytes]) -> None:
        b"".join(chunks)
        if number == 0:
            raise OSError("the last part was refused")

    def endless() -> Iterator[bytes]:
        while True:
            yield b"a"

    with pytest.raises(OSError, match="the last part was refused"):
        overlapping(((0, [b"a"]), (1, endless())), work)
