"""Bytes of one HTTP exchange: the request body as it comes in, the answer as it goes out.

Nothing here knows queries. Both directions stream: no more than one buffer of either is held.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from bilten_orchestration.local.clickhouse import native, protocol
from bilten_orchestration.local.clickhouse.engine import EngineError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Above this a chunk is compressed in a thread: a megabyte of gzip would hold the event loop for 20 ms.
_INLINE_BYTES = 64 * 1024
# The same for a frame of a body: a megabyte of LZ4 and its checksum take 1 ms.
_INLINE_FRAME_BYTES = 1 << 20
_STALLED_SECONDS = 300


class ClientGone(Exception):
    """The client closed its connection; nobody is there to answer."""


@contextlib.asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    """A client that neither sends nor takes anything for so long is gone, and its place free."""
    try:
        async with asyncio.timeout(_STALLED_SECONDS):
            yield
    except TimeoutError:
        raise ClientGone from None


class Body:
    """The request body, decoded; `read` gives what came, b"" at the end."""

    def __init__(self, receive: Receive, content_encoding: str, *, framed: bool = False) -> None:
        self._receive = receive
        self._decoder = protocol.request_decoder(content_encoding, framed=framed)
        self._pushed_back: list[bytes] = []
        self._pieces: Iterator[bytes] = iter(())
        self._ended = False
        self.complete = False

    def push_back(self, data: bytes) -> None:
        if data:
            self._pushed_back.append(data)

    async def read(self) -> bytes:
        if self._pushed_back:
            return self._pushed_back.pop()
        while True:
            long = self._decoder is not None and self._decoder.held_bytes > _INLINE_FRAME_BYTES
            if piece := await asyncio.to_thread(self._piece) if long else self._piece():
                return piece
            if self._ended:
                if self._decoder is not None:
                    self._decoder.finish()
                self.complete = True
                return b""
            async with _patience():
                message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self._ended = not message.get("more_body", False)
            data: bytes = message.get("body", b"")
            if self._decoder is None:
                self.complete = self._ended
                if data:
                    return data
            elif data:
                self._pieces = self._decoder.decompress(data)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """What is left of it."""
        while data := await self.read():
            yield data

    def _piece(self) -> bytes:
        """The next of what was received, decoded."""
        try:
            return next(filter(None, self._pieces), b"")
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001 - each codec has its own
            raise EngineError(
                354, f"Cannot decompress the request body: {error} (ZLIB_INFLATE_FAILED)"
            ) from None

    async def closed(self) -> None:
        """Returns when the client goes away; what is left of the body is thrown away."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


class PipeReader:
    """The reading end of a pipe as an awaitable; its owner closes it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()

    async def read(self, size: int = 1 << 20) -> bytes:
        """What is there, b"" when every writer has closed."""
        while True:
            try:
                return os.read(self._fd, size)
            except BlockingIOError:
                ready: asyncio.Future[None] = self._loop.create_future()
                self._loop.add_reader(self._fd, _settle, ready)
                try:
                    await ready
                finally:
                    self._loop.remove_reader(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Answer:
    """One HTTP response. Bytes are held until `begin`, so that an early error can still have its status."""

    def __init__(self, send: Send, accept_encoding: str, tag: str) -> None:
        self._send = send
        self._accept_encoding = accept_encoding
        self._compressor: protocol.Compressor | None = None
        self._tag = tag
        #: Whether the client reads frames (compress=1), of rows and of errors; not known before the login.
        self.framed = False
        self.status = 0
        self.sent_bytes = 0

    @property
    def begun(self) -> bool:
        return self.status != 0

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]], *, compress: bool = True) -> None:
        self.status = status
        chosen = protocol.response_compressor(self._accept_encoding) if compress else None
        if self.framed and compress:
            self._compressor = native.Compressor()
        elif chosen is not None:
            headers = [*headers, (b"content-encoding", chosen[0].encode()), (b"vary", b"Accept-Encoding")]
            self._compressor = chosen[1]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        if self._compressor is not None and data:
            if len(data) > _INLINE_BYTES:
                data = await asyncio.to_thread(self._compressor.compress, data)
            else:
                data = self._compressor.compress(data)
        if data:
            self.sent_bytes += len(data)
            async with _patience():
                await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        tail = self._compressor.flush() if self._compressor is not None else b""
        self.sent_bytes += len(tail)
        await self._send({"type": "http.response.body", "body": tail, "more_body": False})

    async def fail(self, error: EngineError, headers: list[tuple[bytes, bytes]]) -> None:
        """An error as its own response or, after the first byte, as the exception block and a broken end."""
        if not self.begun:
            body = protocol.exception_text(error).encode()
            if self.framed:
                body = native.readable(body)
            headers = [
                *headers,
                (b"content-type", b"text/plain; charset=UTF-8"),
                (b"content-length", str(len(body)).encode()),
                (b"x-clickhouse-exception-code", str(error.code).encode()),
            ]
            if error.code == protocol.REQUIRED_PASSWORD:
                headers.append((b"www-authenticate", b'Basic realm="ClickHouse server HTTP API"'))
            await self.begin(protocol.status_of(error.code), headers, compress=False)
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
            return
        await self.write(protocol.exception_block(error, self._tag))
        tail = self._compressor.flush() if self._compressor is not None else b""
        if tail:
            await self._send({"type": "http.response.body", "body": tail, "more_body": True})
        # Returning without the last chunk makes the HTTP server cut the connection: a client that does
        # not know the exception block sees an incomplete answer, never a short one.


class Spool:
    """Bytes of a whole answer (wait_end_of_query): in memory up to 4 MiB, then in a file."""

    def __init__(self, directory: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=4 << 20, dir=str(directory))  # noqa: SIM115

    async def write(self, data: bytes) -> None:
        await asyncio.to_thread(self._file.write, data)

    async def drain_to(self, answer: Answer) -> None:
        self._file.seek(0)
        while chunk := await asyncio.to_thread(self._file.read, 1 << 20):
            await answer.write(chunk)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
