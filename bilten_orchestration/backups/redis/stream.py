"""The server's snapshot over the network, as a replica gets it: the only way that needs neither its disk nor
its user's shell.

PSYNC makes the server fork and send an RDB file, its own way (repl-diskless-sync): from a file of its own,
with the size before it, or straight from the child, with a mark of 40 bytes before and after it. With
`rdb-only` it keeps no buffer of the writes meanwhile, so that a slow link costs it no memory (REPLCONF,
src/replication.c). While it prepares it sends empty lines.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bilten_orchestration.errors import StoreUnavailable, TerminalError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import RedisSettings
from bilten_orchestration.stores import redis

STALLED_SECONDS = 60
# until it begins to send: another child (a rewrite) has to end first, and the file is written whole
PREPARED_SECONDS = 3600
_READ_BYTES = 1 << 20
_LINE_BYTES = 1 << 16
_MARK_BYTES = 40
_TOLD_EVERY_SECONDS = 2
_DOING = "the snapshot"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`size_bytes` where the server tells it beforehand. `chunks` can be taken once."""

    replication_id: str
    offset: int
    size_bytes: int | None
    chunks: Iterator[bytes]


@contextmanager
def snapshot(
    settings: RedisSettings, *, stalled_seconds: float = STALLED_SECONDS, progress: Progress = silent
) -> Iterator[Snapshot]:
    """Ask for a snapshot and wait until it comes. Leaving the block ends it on the server as well.

    Raises StoreUnavailable (also from `chunks`: gone in the middle, or nothing for `stalled_seconds`),
    AccessRefused, Refused (PSYNC is not there), TerminalError (an answer that is none).
    """
    client = redis.client(settings, timeout_seconds=stalled_seconds)
    with redis.translated(settings, _DOING):
        connection = client.connection_pool.get_connection()
    try:
        with redis.translated(settings, _DOING):
            for capability in (("capa", "eof"), ("rdb-only", "1")):
                connection.send_command("REPLCONF", *capability)  # type: ignore[no-untyped-call]
                connection.read_response()
            connection.send_command("PSYNC", "?", "-1")  # type: ignore[no-untyped-call]
        # what follows is no answer that the client could read: from here the socket is ours
        taken = connection._sock
        assert isinstance(taken, socket.socket)  # noqa: S101
        reader = _Reader(taken, settings, stalled_seconds)
        word, *rest = reader.answer(progress).decode(errors="replace").split()
        if word != "+FULLRESYNC" or len(rest) != 2:
            raise _unknown(settings, word)
        size = reader.answer(progress)
        if not size.startswith(b"$"):
            raise _unknown(settings, size[:20].decode(errors="replace"))
        mark = size[5:] if size.startswith(b"$EOF:") else None
        if mark is None:
            yield Snapshot(rest[0], int(rest[1]), int(size[1:]), reader.counted(int(size[1:])))
        elif len(mark) != _MARK_BYTES:
            raise _unknown(settings, f"a mark of {len(mark)} bytes")
        else:
            yield Snapshot(rest[0], int(rest[1]), None, reader.until(mark))
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call]
        client.close()


class _Reader:
    """Lines, then bytes, from a socket that has a time limit."""

    def __init__(self, taken: socket.socket, settings: RedisSettings, stalled_seconds: float) -> None:
        taken.settimeout(stalled_seconds)
        self._socket, self._settings, self._stalled = taken, settings, stalled_seconds
        self._left = b""

    def answer(self, progress: Progress) -> bytes:
        """The next line that is not empty. Raises what an error says."""
        began = told = time.monotonic()
        while True:
            line, found, rest = self._left.partition(b"\n")
            if found:
                self._left = rest
                if line := line.strip():
                    break
            elif len(self._left) > _LINE_BYTES:
                raise _unknown(self._settings, f"{len(self._left)} bytes without an end of line")
            else:
                self._left += self._receive("before it sent anything")
            now = time.monotonic()
            if now - began > PREPARED_SECONDS:
                raise self._away(f"still preparing after {PREPARED_SECONDS} s")
            if now - told > _TOLD_EVERY_SECONDS:
                told = now
                progress(f"Redis prepares the snapshot, {now - began:.0f} s")
        if line.startswith(b"-"):
            raise redis.refusal(self._settings, line[1:].decode(errors="replace"), _DOING)
        return line

    def counted(self, size: int) -> Iterator[bytes]:
        at = 0
        while at < size:
            chunk = self._taken() or self._receive(f"after {at:,} of {size:,} bytes")
            chunk = chunk[: size - at]
            at += len(chunk)
            yield chunk

    def until(self, mark: bytes) -> Iterator[bytes]:
        """What comes before the mark. Nothing comes after it: the server waits for us then."""
        held, at = b"", 0
        while not held.endswith(mark):
            held += self._taken() or self._receive(f"after {at:,} bytes, without the mark at the end")
            if len(held) > _MARK_BYTES and not held.endswith(mark):
                at += len(held) - _MARK_BYTES
                yield held[:-_MARK_BYTES]
                held = held[-_MARK_BYTES:]
        yield held[:-_MARK_BYTES]

    def _taken(self) -> bytes:
        left, self._left = self._left, b""
        return left

    def _receive(self, where: str) -> bytes:
        try:
            chunk = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise self._away(f"nothing for {self._stalled:g} s, {where}") from None
        except OSError as error:
            raise self._away(f"{error.strerror or error}, {where}") from None
        if not chunk:
            raise self._away(f"the connection was closed {where}")
        return chunk

    def _away(self, found: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"Redis at {redis.address_of(self._settings)} did not send its snapshot whole",
            expected="all of it",
            found=found,
            next="the same again; if it persists the server's log says why (no memory to fork, a full disk)",
        )


def _unknown(settings: RedisSettings, found: str) -> TerminalError:
    return TerminalError(
        f"Redis at {redis.address_of(settings)} answers PSYNC in a way that is not known",
        expected="+FULLRESYNC, and $ with a size or a mark",
        found=found,
        next="is it a proxy? name the server itself: BILTEN_REDIS__HOST",
    )
