"""The HTTP application: one request in, one statement to the engine, one answer out.

A request is taken apart (protocol), its user known (authentication), its statement judged (access), a
place waited for, and then run in a thread of its own while this event loop moves the bytes. Whatever
ends the request early (a client that goes away, a shutdown) kills the query in the engine.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bilten_orchestration.local.clickhouse import access, protocol, statement
from bilten_orchestration.local.clickhouse.authentication import Authentication
from bilten_orchestration.local.clickhouse.config import EndpointConfig, User
from bilten_orchestration.local.clickhouse.engine import (
    QUERY_ID,
    TAG_SETTING,
    USER,
    Connection,
    Engine,
    EngineError,
    Totals,
)
from bilten_orchestration.local.clickhouse.engine_config import engine_path
from bilten_orchestration.local.clickhouse.exchange import (
    Answer,
    Body,
    ClientGone,
    PipeReader,
    Receive,
    Send,
    Spool,
)
from bilten_orchestration.local.clickhouse.sessions import Sessions

log = logging.getLogger(__name__)
access_log = logging.getLogger("bilten.clickhouse.access")

T = TypeVar("T")

_PIPE_BYTES = 1 << 20
_HEAD_BYTES = 1 << 20
_STATEMENT_BYTES = 64 << 20


@dataclass
class Running:
    """A statement under way and what is known of it, for the log line and for killing it."""

    call: protocol.Call
    answer: Answer
    body: Body
    tag: str
    started: float = field(default_factory=time.monotonic)
    text: str = ""
    format: str = ""
    totals: Totals = field(default_factory=Totals)
    code: int = 0
    progress: list[Totals] = field(default_factory=list)


class Endpoint:
    """Everything the process holds: the engine, its threads, sessions and running queries."""

    def __init__(self, config: EndpointConfig, engine: Engine) -> None:
        self.config = config
        self.engine = engine
        self.sessions = Sessions(config)
        self.authentication = Authentication(config)
        self.gate = access.Gate(engine)
        self.timezone = engine.control("SELECT timezone()").decode().strip()
        # One thread a running query, plus some that open and kill.
        self._threads = ThreadPoolExecutor(config.max_concurrent_queries + 4, thread_name_prefix="query")
        self._places = asyncio.Semaphore(config.max_concurrent_queries)
        self._waiting = 0
        self._running: dict[str, Running] = {}
        self.closing = False

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    # -- one request ---------------------------------------------------------------------------

    async def handle(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        tag = protocol.exception_tag()
        answer = Answer(send, "", tag)
        base = self._headers(tag)
        try:
            call = protocol.parse_call(scope["query_string"], headers, get=scope["method"] == "GET")
            answer = Answer(send, call.accept_encoding, tag)
            client = "{}:{}".format(*(scope.get("client") or ("?", 0)))
            user = await self.authentication.check(call.user, call.password, client)
            base.append((b"x-clickhouse-query-id", call.query_id.encode("utf-8", "replace")))
            if call.native_compression:
                raise EngineError(
                    protocol.NOT_IMPLEMENTED,
                    "compress and decompress (native framing) are not supported by this endpoint; use"
                    " Content-Encoding and Accept-Encoding with lz4, zstd or gzip (NOT_IMPLEMENTED)",
                )
            body = Body(receive, call.content_encoding)
            running = Running(call, answer, body, tag=f"{call.user}:{call.query_id}")
        except EngineError as error:
            await answer.fail(error, base)
            return
        except ClientGone:
            return
        try:
            await self._query(running, user, base)
        except ClientGone:
            running.code = 210
        except EngineError as error:
            running.code = error.code
            with contextlib.suppress(ClientGone, OSError):
                await answer.fail(error, base)
        except Exception:
            # A defect of this endpoint: whole in the log, without its inside to the client.
            log.exception("query_id=%s failed inside the endpoint", call.query_id[:64])
            running.code = protocol.UNKNOWN_EXCEPTION
            with contextlib.suppress(ClientGone, OSError):
                await answer.fail(EngineError(running.code, "Internal error of the endpoint; see its log"), base)
        finally:
            self._log(running)

    def _headers(self, tag: str) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-clickhouse-server-display-name", self.config.display_name.encode()),
            (b"x-clickhouse-timezone", self.timezone.encode()),
            (b"x-clickhouse-exception-tag", tag.encode()),
        ]

    async def _query(self, running: Running, user: User, base: list[tuple[bytes, bytes]]) -> None:
        call = running.call
        head = await self._statement(running)
        if call.read_only and head != "rows":
            raise EngineError(
                protocol.READONLY,
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly."
                " You should use method POST for modifying queries. (READONLY)",
            )
        settings = dict(call.settings)
        if user.profile == "analyst":
            if isinstance(head, statement.InsertHead):
                raise access.refused("INSERT")
            access.check_settings(settings, call.database)
            settings |= await self.call(self.gate.judge, running.text, call.database)
        async with self._admitted(running), self._connection(running, user, settings) as connection:
            if isinstance(head, statement.InsertHead):
                await self._insert(running, head, connection, base)
            elif head == "rows":
                await self._rows(running, connection, base)
            else:
                running.totals = await self._watched(
                    running, lambda: connection.run(running.text, call.default_format, call.parameters)
                )
                await self._whole(running, running.totals.body, base)

    async def _statement(self, running: Running) -> statement.InsertHead | statement.Kind:
        """Read as much of the body as it takes to know what is asked."""
        call, body = running.call, running.body
        text = call.query.encode("utf-8", "surrogateescape")
        if text:
            text += b"\n"
        head = text.decode("latin-1")
        while True:
            found = (
                statement.insert_head(head, body.complete) if statement.kind_of(head) == "insert" else None
            )
            if found is not None:
                return self._begins(running, found, head)
            chunk = await body.read()
            if not chunk:
                break
            head += chunk.decode("latin-1")
            if len(head) > _STATEMENT_BYTES:
                raise EngineError(
                    protocol.QUERY_IS_TOO_LARGE,
                    f"Query is larger than {_STATEMENT_BYTES} bytes and no inline data was found (QUERY_IS_TOO_LARGE)",
                )
        kind = statement.kind_of(head)
        if kind == "empty":
            raise EngineError(protocol.SYNTAX_ERROR, "Syntax error: Empty query (SYNTAX_ERROR)")
        if kind == "insert":
            found = statement.insert_head(head, True)
            if found is not None:
                return self._begins(running, found, head)
            kind = "other"
        try:
            head = statement.without_semicolon(head)
        except ValueError as error:
            raise EngineError(
                protocol.SYNTAX_ERROR,
                f"Syntax error (Multi-statements are not allowed): failed at: {error} (SYNTAX_ERROR)",
            ) from None
        if statement.names_outfile(head):
            raise EngineError(
                protocol.INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed (INTO_OUTFILE_NOT_ALLOWED)"
            )
        first = next(statement.tokens(head), None)
        if first is not None and first.is_word("KILL"):
            # The engine's own ids are nobody's; a client kills by the id it gave or was given.
            head = statement.with_columns(head, {"query_id": QUERY_ID, "user": USER})
        running.text = head.encode("latin-1").decode("utf-8", "surrogateescape")
        running.format = statement.output_clause(head)[0] or call.default_format
        return kind

    @staticmethod
    def _begins(running: Running, found: statement.InsertHead, head: str) -> statement.InsertHead:
        running.body.push_back(head[found.data_offset :].encode("latin-1"))
        running.text = found.statement.encode("latin-1").decode("utf-8", "replace")
        return found

    @contextlib.asynccontextmanager
    async def _admitted(self, running: Running) -> AsyncIterator[None]:
        """A place among the running queries; a bounded line before it."""
        call = running.call
        if call.query_id in self._running:
            raise EngineError(
                protocol.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                f"Query with id = {call.query_id} is already running. (QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)",
            )
        if self.closing:
            raise EngineError(236, "The server is shutting down (ABORTED)")
        self._running[call.query_id] = running
        try:
            if self._places.locked():
                if self._waiting >= self.config.max_waiting_queries:
                    raise self._busy()
                self._waiting += 1
                try:
                    await asyncio.wait_for(self._places.acquire(), self.config.max_wait_seconds)
                except TimeoutError:
                    raise self._busy() from None
                finally:
                    self._waiting -= 1
            else:
                await self._places.acquire()
            try:
                yield
            finally:
                self._places.release()
        finally:
            del self._running[call.query_id]

    def _busy(self) -> EngineError:
        return EngineError(
            protocol.TOO_MANY_SIMULTANEOUS_QUERIES,
            f"Too many simultaneous queries. Maximum: {self.config.max_concurrent_queries}, and"
            f" {self._waiting} are waiting (TOO_MANY_SIMULTANEOUS_QUERIES)",
        )

    @contextlib.asynccontextmanager
    async def _connection(
        self, running: Running, user: User, settings: dict[str, str]
    ) -> AsyncIterator[Connection]:
        call = running.call
        settings |= {TAG_SETTING: running.tag}
        if call.database:
            settings["database"] = call.database
        analyst = user.profile == "analyst"
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(self.sessions.use(call)) if call.session_id else None
            if session is None or analyst:
                connection = await self.call(lambda: self.engine.open(settings, analyst=analyst))
                stack.push_async_callback(self.call, connection.close)
            else:
                if session.connection is None:
                    session.connection = await self.call(lambda: self.engine.open({}))
                changes = next(statement.tokens(running.text), None)
                if changes is not None and changes.is_word("SET"):
                    settings = {TAG_SETTING: running.tag}
                connection = await self.call(session.prepare, settings)
            yield connection

    # -- running -------------------------------------------------------------------------------

    async def _watched(self, running: Running, work: Callable[[], T]) -> T:
        """Run in a thread; if the client goes away meanwhile, kill the query and wait for its end."""
        job = asyncio.ensure_future(self.call(work))
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
                await self.call(self.engine.kill, running.tag)
            await asyncio.wait({job}, timeout=0.2)
        with contextlib.suppress(BaseException):
            job.result()

    async def _rows(self, running: Running, connection: Connection, base: list[tuple[bytes, bytes]]) -> None:
        """Stream rows; the header goes out with the first full buffer, or at the end with real totals."""
        call, answer = running.call, running.answer
        read_fd, write_fd = os.pipe()
        with contextlib.suppress(OSError):  # above the user's pipe quota the default size does
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        reader = PipeReader(read_fd)
        spool = Spool(engine_path(self.config) / "tmp") if call.wait_end else None

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
                        now = await self.call(self.engine.progress, running.tag)
                        await self._begin(running, now or Totals(), base)
                        await answer.write(bytes(held))
                        held.clear()
            running.totals = await job
            if not answer.begun:
                await self._begin(running, running.totals, base)
            if spool is not None:
                await spool.drain_to(answer)
            # What takes no INTO OUTFILE answered in memory.
            await answer.write(bytes(held) or (b"" if answer.sent_bytes else running.totals.body))
            await answer.end()

        job = asyncio.ensure_future(self.call(work))
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
            if not job.done() and (now := await self.call(self.engine.progress, running.tag)):
                running.progress.append(now)

    async def _begin(self, running: Running, totals: Totals, base: list[tuple[bytes, bytes]]) -> None:
        headers = [
            *base,
            (b"content-type", protocol.content_type(running.format).encode()),
            (b"x-clickhouse-format", running.format.encode()),
            *((b"x-clickhouse-progress", protocol.summary_header(step)) for step in running.progress),
            (b"x-clickhouse-summary", protocol.summary_header(totals)),
        ]
        await running.answer.begin(200, headers)

    async def _whole(self, running: Running, body: bytes, base: list[tuple[bytes, bytes]]) -> None:
        """The answer of what has no rows to stream."""
        headers = [*base, (b"x-clickhouse-summary", protocol.summary_header(running.totals))]
        kind = protocol.content_type(running.call.default_format) if body else "text/plain; charset=UTF-8"
        headers.append((b"content-type", kind.encode()))
        if body:
            headers.append((b"x-clickhouse-format", running.call.default_format.encode()))
        await running.answer.begin(200, headers, compress=bool(body))
        await running.answer.write(body)
        await running.answer.end()

    async def _insert(
        self,
        running: Running,
        head: statement.InsertHead,
        connection: Connection,
        base: list[tuple[bytes, bytes]],
    ) -> None:
        """Stream a body into the engine; nothing is answered before the engine has committed."""
        body = running.body
        stack = contextlib.ExitStack()
        try:
            insert = await self.call(lambda: stack.enter_context(connection.insert(head)))
            while data := await body.read():
                await self.call(insert.append, data)
            running.totals = await self.call(insert.finish)
        finally:
            await self.call(stack.close)
        await self._whole(running, b"", base)

    # -- end -----------------------------------------------------------------------------------

    def _log(self, running: Running) -> None:
        call = running.call
        access_log.info(
            "query_id=%s user=%s ms=%d read_rows=%d written_rows=%d sent_bytes=%d code=%d status=%d statement=%r",
            call.query_id[:64],
            call.user,
            (time.monotonic() - running.started) * 1000,
            running.totals.read_rows,
            running.totals.written_rows,
            running.answer.sent_bytes,
            running.code,
            running.answer.status,
            statement.redacted(running.text),
        )

    async def drain(self) -> None:
        """Take no new queries, let the running ones end for the grace time, then kill them."""
        self.closing = True
        deadline = time.monotonic() + self.config.shutdown_grace_seconds
        while self._running and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if self._running:
            log.warning("killing %d running queries: the endpoint stops", len(self._running))
        # Again and again: one that was just starting is killed by the next round. Bounded, for a client
        # that does not read its answer keeps its query open; the connection's end is its end.
        for _ in range(30):
            if not self._running:
                break
            await asyncio.to_thread(self.engine.kill_all)
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """After the last connection: sessions, then the engine with its log flushed."""
        await self.sessions.expire(everything=True)
        await asyncio.to_thread(self.gate.close)
        await asyncio.to_thread(self.engine.close)


def application(config: EndpointConfig, make_engine: Callable[[], Engine]) -> Starlette:
    """The ASGI application; the engine starts with it and ends with it."""

    @contextlib.asynccontextmanager
    async def lifespan(running: Starlette) -> AsyncIterator[None]:
        endpoint = Endpoint(config, await asyncio.to_thread(make_engine))
        running.state.endpoint = endpoint
        ticking = asyncio.create_task(_expire(endpoint))
        try:
            yield
        finally:
            ticking.cancel()
            await endpoint.close()

    async def ping(request: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    class Query:
        """Statements at `/`; without one, a GET answers Ok as a server does."""

        async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
            if scope["method"] in ("GET", "HEAD") and not scope["query_string"]:
                await ping_response(scope, receive, send)
            else:
                await scope["app"].state.endpoint.handle(scope, receive, send)

    ping_response: Any = PlainTextResponse("Ok.\n")
    return Starlette(
        routes=[
            Route("/ping", ping, methods=["GET", "HEAD"]),
            Route("/replicas_status", ping, methods=["GET", "HEAD"]),
            Route("/", Query(), methods=["GET", "POST", "HEAD", "PUT"]),
        ],
        lifespan=lifespan,
    )


async def _expire(endpoint: Endpoint) -> None:
    while True:
        await asyncio.sleep(5)
        await endpoint.sessions.expire()
