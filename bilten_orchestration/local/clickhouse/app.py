"""The HTTP application: one request in, one statement to the engine, one answer out.

A request is taken apart (protocol), its user known (authentication), its statement judged (access), a
place waited for, and then run in a thread of its own while this event loop moves the bytes. Whatever
ends the request early (a client that goes away, a shutdown) kills the query in the engine.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bilten_orchestration.local.clickhouse import access, protocol, statement
from bilten_orchestration.local.clickhouse.admission import Admission
from bilten_orchestration.local.clickhouse.authentication import Authentication
from bilten_orchestration.local.clickhouse.config import EndpointConfig
from bilten_orchestration.local.clickhouse.engine import (
    QUERY_ID,
    TAG_SETTING,
    USER,
    Connection,
    Engine,
    EngineError,
)
from bilten_orchestration.local.clickhouse.engine_config import engine_path
from bilten_orchestration.local.clickhouse.exchange import Answer, Body, ClientGone, Receive, Send
from bilten_orchestration.local.clickhouse.execution import Execution, Running
from bilten_orchestration.local.clickhouse.sessions import Sessions

log = logging.getLogger(__name__)
access_log = logging.getLogger("bilten.clickhouse.access")

T = TypeVar("T")

# The engine's binding takes `exit`, `quit`, `q` and the like, alone, for the end of its command line. With a
# comment before it such a word is what it is: no statement.
_PROMPT_WORD_BYTES = 8
# A server's max_query_size is 256 KiB; what is longer is data, or a mistake.
_STATEMENT_BYTES = 4 << 20
_INLINE_BYTES = 32 << 10


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
        self.admission = Admission(config)
        self.execution = Execution(engine, self.call, engine_path(config) / "tmp")

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    # -- one request ---------------------------------------------------------------------------

    async def handle(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        tag = protocol.exception_tag()
        answer = Answer(send, "", tag)
        base = self._headers(tag)
        try:
            call = protocol.parse_call(scope["query_string"], headers, get=scope["method"] in ("GET", "HEAD"))
            answer = Answer(send, call.accept_encoding, tag)
            client = "{}:{}".format(*(scope.get("client") or ("?", 0)))
            user = await self.authentication.check(call.user, call.password, client)
            answer.framed = call.compress
            protocol.check_supported(call, headers)
            base.append((b"x-clickhouse-query-id", call.query_id.encode("utf-8", "replace")))
            body = Body(receive, call.content_encoding, framed=call.decompress)
            if protocol.is_form(headers):
                call = await protocol.with_form(call, headers, body.chunks())
            running = Running(call, user, answer, body, base)
        except EngineError as error:
            await answer.fail(error, base)
            return
        except ClientGone:
            return
        try:
            await self._query(running)
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
                await answer.fail(
                    EngineError(running.code, "Internal error of the endpoint; see its log"), base
                )
        finally:
            self._log(running)

    def _headers(self, tag: str) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-clickhouse-server-display-name", self.config.display_name.encode()),
            (b"x-clickhouse-timezone", self.timezone.encode()),
            (b"x-clickhouse-exception-tag", tag.encode()),
        ]

    async def _query(self, running: Running) -> None:
        call = running.call
        head = await self._statement(running)
        if call.read_only and (head != "rows" or next(statement.tokens(running.text)).is_word("KILL")):
            raise EngineError(
                protocol.READONLY,
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly."
                " You should use method POST for modifying queries. (READONLY)",
            )
        settings = dict(call.settings)
        if running.user.profile == "analyst":
            if isinstance(head, statement.InsertHead):
                raise access.refused("INSERT")
            access.check_settings(settings, call.database)
            if running.kills is not None:
                # By the login's own tag: nobody else's query has it.
                await self.call(self.engine.kill, f"{call.user}:{running.kills}")
                await self.execution.whole(running, b"")
                await running.answer.end()
                return
            running.text = access.own_grants(running.text, call.user) or running.text
            judged = await self.call(self.gate.judge, running.text, call.database)
            settings |= judged.settings
            if not judged.streams:
                head = "other"
        async with self.admission.place(running), self._connection(running, settings) as connection:
            if connection.bound:
                self.execution.refuse_unset(statement.parameters(running.text), running, connection)
            if isinstance(head, statement.InsertHead):
                await self.execution.insert(running, head, connection)
            elif head == "rows":
                await self.execution.rows(running, connection)
            else:
                running.totals = await self.execution.watched(
                    running, lambda: connection.run(running.text, call.default_format, call.parameters)
                )
                await self.execution.whole(running, running.totals.body)
        # Only now, when id, session and place are free again: who has read the end may ask again at once.
        await running.answer.end()

    async def _statement(self, running: Running) -> statement.InsertHead | statement.Kind:
        """Read as much of the body as it takes to know what is asked.

        Raises EngineError for what is no single statement, or cannot be told from one.
        """
        call, body = running.call, running.body
        text = call.query.encode("utf-8", "surrogateescape").decode("latin-1")
        head = f"{text}\n" if text else ""
        scanned = -1
        while True:
            # A long one is looked at again only when twice as long: chunks must not cost its square.
            again = len(head) < _INLINE_BYTES or len(head) > 2 * scanned or body.complete
            if again and statement.kind_of(head) == "insert":
                scanned = len(head)
                try:
                    found = await self._lexed(statement.insert_head, head, body.complete)
                except ValueError:
                    raise EngineError(
                        protocol.SYNTAX_ERROR,
                        "Syntax error: there is a ';' too many before the data of the INSERT (SYNTAX_ERROR)",
                    ) from None
                if found is not None:
                    await self._lexed(self._check, head[: found.data_offset])
                    body.push_back(head[found.data_offset :].encode("latin-1"))
                    running.text = statement.utf8(found.statement)
                    return found
            if body.complete:
                break
            head += (await body.read()).decode("latin-1")
            if len(head) > _STATEMENT_BYTES:
                raise EngineError(
                    protocol.QUERY_IS_TOO_LARGE,
                    f"Query is larger than {_STATEMENT_BYTES} bytes and has no inline data"
                    " (QUERY_IS_TOO_LARGE)",
                )
        return await self._lexed(self._prepare, running, head)

    async def _lexed(self, function: Callable[..., T], *arguments: Any) -> T:
        """Short texts are lexed at once, long ones in a thread."""
        if max(len(text) for text in arguments if isinstance(text, str)) > _INLINE_BYTES:
            return await self.call(function, *arguments)
        return function(*arguments)

    @staticmethod
    def _check(head: str) -> None:
        if foreign := statement.outside_quotes(head):
            raise EngineError(
                protocol.SYNTAX_ERROR,
                f"Syntax error: {foreign[:20]!r} stands outside of quotes; only ASCII may there, so write"
                " plain quotes, blanks and minus signs (SYNTAX_ERROR)",
            )

    @staticmethod
    def _prepare(running: Running, head: str) -> statement.Kind:
        """Check and route a whole statement."""
        Endpoint._check(head)
        kind = statement.kind_of(head)
        if kind == "empty":
            raise EngineError(protocol.SYNTAX_ERROR, "Syntax error: Empty query (SYNTAX_ERROR)")
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
        if kind != "rows" and statement.reads_input(head):
            # the engine would read nothing, insert nothing and say that it went well
            raise EngineError(
                protocol.NOT_IMPLEMENTED,
                "input() is not supported by this endpoint; insert the data into a temporary table of a"
                " session (session_id=...), then INSERT ... SELECT from that (NOT_IMPLEMENTED)",
            )
        first = next(statement.tokens(head))
        if first.is_word("KILL"):
            # The engine's own ids are nobody's; a client kills by the id it gave or was given.
            running.kills = statement.killed_query(head)
            head = statement.with_columns(head, {"query_id": QUERY_ID, "user": USER})
        elif kind == "other" and first.is_word("WITH"):
            # INSERT with data behind WITH: the engine would take the statement's end for data
            insert = next(token for token in statement.tokens(head) if token.is_word("INSERT"))
            if statement.insert_head(head[insert.start :], complete=True) is not None:
                raise EngineError(
                    protocol.NOT_IMPLEMENTED,
                    "WITH before an INSERT that carries data is not supported by this endpoint; leave it out"
                    " (NOT_IMPLEMENTED)",
                )
        elif kind == "other" and not first.begins_statement:
            # the binding takes it for no statement at all, and answers nothing
            raise EngineError(
                protocol.SYNTAX_ERROR,
                f"Syntax error: failed at position {first.start + 1}"
                f" ({statement.utf8(first.text[:100])}) (SYNTAX_ERROR)",
            )
        elif kind == "other" and len(head.strip()) <= _PROMPT_WORD_BYTES:
            head = f"/**/{head}"
        running.text = statement.utf8(head)
        running.format = statement.output_clause(head)[0] or running.call.default_format
        # An INSERT whose data was not found is INSERT SELECT, or one without data.
        return "other" if kind == "insert" else kind

    @contextlib.asynccontextmanager
    async def _connection(self, running: Running, settings: dict[str, str]) -> AsyncIterator[Connection]:
        call = running.call
        settings |= {TAG_SETTING: running.tag}
        if call.database:
            settings["database"] = call.database
        analyst = running.user.profile == "analyst"
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

    # -- end -----------------------------------------------------------------------------------

    def _log(self, running: Running) -> None:
        call = running.call
        access_log.info(
            "query_id=%s user=%s ms=%d read_rows=%d written_rows=%d sent_bytes=%d code=%d status=%d"
            " statement=%r",
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
        self.admission.closing = True
        deadline = time.monotonic() + self.config.shutdown_grace_seconds
        while self.admission and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if self.admission:
            log.warning("killing %d running queries: the endpoint stops", len(self.admission))
        # Again and again: one that was just starting is killed by the next round. Bounded, for a client
        # that does not read its answer keeps its query open; the connection's end is its end.
        for _ in range(30):
            if not self.admission:
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
