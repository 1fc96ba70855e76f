"""Streams as iterators of bytes: what the parts of a backup pass on to each other."""

from __future__ import annotations

import io
from collections.abc import Iterable


class Readable(io.RawIOBase):
    """Chunks as a file that is read once, for libraries that want one."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end; with a negative `size` or None all that is left."""
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
