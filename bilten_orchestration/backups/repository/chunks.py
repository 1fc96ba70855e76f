"""Streams as iterators of bytes: what the stages of a backup pass on to each other."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, TypeVar, cast

Head = TypeVar("Head")
Made = TypeVar("Made")
_AHEAD = 4


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


class _Queue:
    """Chunks on their way from one thread to another, a bounded number of them."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._made: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = self._left = False
        self._failed: BaseException | None = None

    def give(self, chunk: bytes) -> bool:
        """Waits for room. False when nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._made) < self._at_most or self._left)
            if not self._left:
                self._made.append(chunk)
                self._changed.notify_all()
            return not self._left

    def end(self, failed: BaseException | None = None) -> None:
        """No more will come; with `failed` whoever takes gets that where the next chunk would have come."""
        with self._changed:
            self._failed, self._ended = failed, True
            self._changed.notify_all()

    def leave(self) -> None:
        """Nobody takes any more."""
        with self._changed:
            self._left = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._made or self._ended)
                if not self._made:
                    break
                chunk = self._made.popleft()
                self._changed.notify_all()
            yield chunk
        if self._failed is not None:
            raise self._failed


@contextmanager
def ahead(chunks: Iterable[bytes], at_most: int = _AHEAD) -> Iterator[Iterator[bytes]]:
    """The same chunks, produced by a thread that is up to `at_most` of them ahead of who takes them.

    So the stages of a stream overlap. An error of the producer is raised where its chunk would have come.
    Leaving the block ends the producer after the chunk that it is at, and waits for it.
    """
    queue = _Queue(at_most)

    def produce() -> None:
        failed: BaseException | None = None
        try:
            for chunk in chunks:
                if not queue.give(chunk):
                    return
        except BaseException as error:  # noqa: BLE001 raised again by who takes
            failed = error
        finally:
            queue.end(failed)

    thread = threading.Thread(target=produce, name="backup-stage")
    thread.start()
    try:
        yield iter(queue)
    finally:
        queue.leave()
        thread.join()


def overlapping(
    pieces: Iterable[tuple[Head, Iterable[bytes]]], work: Callable[[Head, Iterable[bytes]], Made]
) -> list[Made]:
    """What `work` makes of each piece of one stream: while it ends one, the next is already read.

    The caller's thread takes each piece to its end before it asks for the next one; two are in work at most.
    Raises what `work` or the stream raises, after both have ended; what the stream raises, `work` gets too.
    """
    made: list[Made] = []
    ending: Future[Made] | None = None

    def worked(head: Head, queue: _Queue) -> Made:
        try:
            return work(head, queue)
        finally:
            queue.leave()

    with ThreadPoolExecutor(2, thread_name_prefix="backup-piece") as pool:
        for head, chunks in pieces:
            queue, taken = _Queue(_AHEAD), True
            try:  # whatever happens, an interrupt too: nobody waits for a chunk that does not come
                begun = pool.submit(worked, head, queue)
                for chunk in chunks:
                    if not (taken := queue.give(chunk)):
                        break
                    if ending is not None and ending.done():
                        made.append(ending.result())
                        ending = None
                queue.end()
            except BaseException as error:
                queue.end(error)
                raise
            if not taken:
                begun.result()  # raises why
                raise RuntimeError("a piece was not taken to its end")
            if ending is not None:
                made.append(ending.result())
            ending = begun
        if ending is not None:
            made.append(ending.result())
    return made
