"""Streams as iterators of bytes: what the stages of a backup pass on to each other."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, cast


def as_file(chunks: Iterable[bytes]) -> IO[bytes]:
    """Chunks as a file that is read once, for libraries that want one.

    `read` gives exactly what is asked for, fewer bytes only at the end.
    """
    return cast(IO[bytes], _Readable(chunks))


class _Readable(io.RawIOBase):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = -1 if size is None else size
        parts: list[memoryview] = []
        while wanted != 0:
            if not self._left:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._left = memoryview(chunk)
                continue
            part = self._left if wanted < 0 else self._left[:wanted]
            self._left = self._left[len(part) :]
            parts.append(part)
            if wanted > 0:
                wanted -= len(part)
        return b"".join(parts)


def cut(chunks: Iterable[bytes], at_bytes: int) -> Iterator[Iterator[bytes]]:
    """The same stream in pieces of `at_bytes`, the last one shorter; none of an empty stream.

    A piece is to be taken to its end before the next one is asked for.
    """
    source = iter(chunks)
    pending = memoryview(b"")

    def piece(first: memoryview) -> Iterator[bytes]:
        nonlocal pending
        pending, left = first, at_bytes
        while left:
            if not pending:
                chunk = next(source, None)
                if chunk is None:
                    return
                pending = memoryview(chunk)
            part = pending[:left]
            pending = pending[len(part) :]
            left -= len(part)
            yield bytes(part)

    while True:
        while not pending:
            chunk = next(source, None)
            if chunk is None:
                return
            pending = memoryview(chunk)
        yield piece(pending)


@contextmanager
def ahead(chunks: Iterable[bytes], at_most: int = 8) -> Iterator[Iterator[bytes]]:
    """The same chunks, produced by a thread that is up to `at_most` of them ahead of who takes them.

    So the stages of a stream overlap. An error of the producer is raised where its chunk would have come.
    Leaving the block ends the producer after the chunk that it is at, and waits for it.
    """
    made: deque[bytes] = deque()
    changed = threading.Condition()
    ended = left = False
    failed: BaseException | None = None

    def produce() -> None:
        nonlocal ended, failed
        try:
            for chunk in chunks:
                with changed:
                    changed.wait_for(lambda: len(made) < at_most or left)
                    if left:
                        return
                    made.append(chunk)
                    changed.notify_all()
        except BaseException as error:  # noqa: BLE001 raised again by who takes
            failed = error
        finally:
            with changed:
                ended = True
                changed.notify_all()

    def take() -> Iterator[bytes]:
        while True:
            with changed:
                changed.wait_for(lambda: made or ended)
                if not made:
                    break
                chunk = made.popleft()
                changed.notify_all()
            yield chunk
        if failed is not None:
            raise failed

    thread = threading.Thread(target=produce, name="backup-stage")
    thread.start()
    try:
        yield take()
    finally:
        with changed:
            left = True
            changed.notify_all()
        thread.join()
