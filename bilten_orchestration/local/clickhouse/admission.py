"""How many queries run at once: places, a bounded line before them, and no query id twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from bilten_orchestration.local.clickhouse import protocol
from bilten_orchestration.local.clickhouse.config import EndpointConfig
from bilten_orchestration.local.clickhouse.engine import EngineError
from bilten_orchestration.local.clickhouse.execution import Running


class Admission:
    """The running queries of the endpoint, by id. Lives in the event loop's thread."""

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._places = asyncio.Semaphore(config.max_concurrent_queries)
        self._waiting = 0
        self._running: dict[str, Running] = {}
        self.closing = False

    def __len__(self) -> int:
        return len(self._running)

    @contextlib.asynccontextmanager
    async def place(self, running: Running) -> AsyncIterator[None]:
        """A place among the running queries; a bounded line before it."""
        call = running.call
        if call.query_id in self._running:
            raise EngineError(
                protocol.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                f"Query with id = {call.query_id} is already running."
                " (QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING)",
            )
        if self.closing:
            raise EngineError(236, "The server is shutting down (ABORTED)")
        self._running[call.query_id] = running
        try:
            if self._places.locked():
                if self._waiting >= self._config.max_waiting_queries:
                    raise self._busy()
                self._waiting += 1
                try:
                    await asyncio.wait_for(self._places.acquire(), self._config.max_wait_seconds)
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
            f"Too many simultaneous queries. Maximum: {self._config.max_concurrent_queries}, and"
            f" {self._waiting} are waiting (TOO_MANY_SIMULTANEOUS_QUERIES)",
        )
