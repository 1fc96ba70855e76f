"""Running one statement: rows out, data in, and the end of it when its client leaves.

The statement runs in a thread, the bytes are moved by the event loop. A query never outlives its
request: every way out of here waits until the engine has ended it.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bilten_orchestration.local.clickhouse import protocol, statement
from bilten_orchestration.local.clickhouse.config import User
from bilten_orchestration.local.clickhouse.engine import Connection, Engine, EngineError, Totals
from bilten_orchestration.local.clickhouse.exchange import Answer, Body, ClientGone, PipeReader, Spool

T = TypeVar("T")

_PIPE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18


class Call(Protocol):
    """Runs a blocking function in one of the endpoint's threads."""

    def __call__(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]: ...


@dataclass
class Running:
    """A statement under way and what is known of it, for the log line and for killing it."""

    call: protocol.Call
    user: User
    answer: Answer
    body: Body
    base: list[tuple[bytes, bytes]]
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    #: The id of the query that this statement kills, where it is no more than that.
    kills: str | None = None
    format: str = ""
    totals: Totals = field(default_factory=Totals)
    code: int = 0
    progress: list[Totals] = field(default_factory=list)

    @property
    def tag(self) -> str:
        """What the query is known by inside the engine."""
        return f"{self.call.user}:{self.call.query_id}"


class Execution:
    """How statements run; holds nothing of a single one."""

    def __init__(self, engine: Engine, call: Call, spool_dir: Path) -> None:
        self._engine = engine
        self._call = call
        self._spool_dir = spool_dir

    async def watched(self, running: Running, work: Callable[[], T]) -> T:
        """Run in a thread; if the client goes away meanwhile, kill the query and wait for its end."""
        job = asyncio.ensure_future(self._call(work))
        gone = asyncio.ensure_future(running.body.closed())
        try:
            await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                return job.result()
            await self._kill(running, job)
            raise ClientGone
        finally:
            gone.cancel()
            if not job.done():
                await self._kill(running, job)

    async def _kill(self, running: Running, job: "asyncio.Future[Any]") -> None:
        """Until the job ends: a KILL that came before the query was registered did nothing."""
        while not job.done():
            with contextlib.suppress(EngineError):
                await self._call(self._engine.kill, running.tag)
            await asyncio.wait({job}, timeout=0.2)
        with contextlib.suppress(BaseException):
            job.result()

    async def rows(self, running: Running, connection: Connection) -> None:
        """Stream rows; the header goes out with the first full buffer, or at the end with real totals."""
        call, answer = running.call, running.answer
        read_fd, write_fd = os.pipe()
        with contextlib.suppress(OSError):  # above the user's pipe quota the default size does
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        reader = PipeReader(read_fd)
        spool = Spool(self._spool_dir) if call.wait_end else None

        def work() -> Totals:
            try:
                return connection.stream(running.text, call.default_format, call.parameters, write_fd)
            finally:
                os.close(write_fd)

        async def move() -> None:
            held = bytearray()
            while data := await reader.read():
                if spool is not None:
                    await spool.write(data)
                elif answer.begun:
                    await answer.write(data)
                else:
                    held += data
                    if len(held) >= call.buffer_bytes:
                        now = await self._call(self._engine.progress, running.tag)
                        await self._begin(running, now or Totals())
                        await answer.write(bytes(held))
                        held.clear()
            running.totals = await job
            if not answer.begun:
                await self._begin(running, running.totals)
            if spool is not None:
                await spool.drain_to(answer)
            # What takes no INTO OUTFILE answered in memory.
            await answer.write(bytes(held) or (b"" if answer.sent_bytes else running.totals.body))

        job = asyncio.ensure_future(self._call(work))
        moving = asyncio.ensure_future(move())
        gone = asyncio.ensure_future(running.body.closed())
        sampling = asyncio.ensure_future(self._sample(running, job)) if call.progress_headers else None
        try:
            await asyncio.wait({moving, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not moving.done():
                raise ClientGone
            moving.result()
        except OSError:
            raise ClientGone from None
        finally:
            for task in (gone, moving, sampling):
                if task is not None:
                    task.cancel()
            with contextlib.suppress(BaseException):
                await moving
            # A writer that is blocked on a full pipe ends with EPIPE only when the reading end is closed.
            reader.close()
            await self._kill(running, job)
            if spool is not None:
                spool.close()

    async def _sample(self, running: Running, job: "asyncio.Future[Any]") -> None:
        """Progress of a query whose client asked for it, until its header is sent."""
        while not job.done() and not running.answer.begun and len(running.progress) < 100:
            await asyncio.wait({job}, timeout=0.1)
            if not job.done() and (now := await self._call(self._engine.progress, running.tag)):
                running.progress.append(now)

    async def _begin(self, running: Running, totals: Totals) -> None:
        headers = [
            *running.base,
            (b"content-type", protocol.content_type(running.format).encode()),
            (b"x-clickhouse-format", running.format.encode()),
            *((b"x-clickhouse-progress", protocol.summary_header(step)) for step in running.progress),
            (b"x-clickhouse-summary", protocol.summary_header(totals)),
        ]
        await running.answer.begin(200, headers)

    async def whole(self, running: Running, body: bytes) -> None:
        """The answer of what has no rows to stream."""
        headers = [*running.base, (b"x-clickhouse-summary", protocol.summary_header(running.totals))]
        kind = protocol.content_type(running.call.default_format) if body else "text/plain; charset=UTF-8"
        headers.append((b"content-type", kind.encode()))
        if body:
            headers.append((b"x-clickhouse-format", running.call.default_format.encode()))
        await running.answer.begin(200, headers, compress=bool(body))
        await running.answer.write(body)

    @staticmethod
    def refuse_unset(names: set[str], running: Running, connection: Connection) -> None:
        """Parameters that are not given, which a session's connection still has from a statement before."""
        if unset := sorted(names & connection.bound - running.call.parameters.keys()):
            raise EngineError(
                protocol.UNKNOWN_QUERY_PARAMETER,
                f"Substitution `{unset[0]}` is not set (UNKNOWN_QUERY_PARAMETER)",
            )

    async def insert(
        self,
        running: Running,
        head: statement.InsertHead,
        connection: Connection,
    ) -> None:
        """Stream a body into the engine; nothing is answered before the engine has committed."""
        body = running.body
        stack = contextlib.ExitStack()
        try:
            if running.call.parameters:  # the binding's insert stream takes none itself
                await self._call(connection.bind, running.call.parameters)
            insert = await self._call(lambda: stack.enter_context(connection.insert(head)))
            # The HTTP server hands over 64 KiB at most; a thread's turn for each would cost more than they.
            held = bytearray()
            values = statement.ValuesData() if head.format.upper() == "VALUES" else None
            while data := await body.read():
                if values is not None:
                    try:
                        values.feed(data)
                    except ValueError as error:
                        raise EngineError(
                            protocol.CANNOT_READ_ALL_DATA,
                            f"Cannot read data after semicolon: {error} (CANNOT_READ_ALL_DATA)",
                        ) from None
                    self.refuse_unset(values.parameters, running, connection)
                held += data
                if len(held) >= _CHUNK_BYTES:
                    await self._call(insert.append, bytes(held))
                    held.clear()
            if held:
                await self._call(insert.append, bytes(held))
            running.totals = await self._call(insert.finish)
        finally:
            await self._call(stack.close)
        await self.whole(running, b"")
