"""Sessions: what a client keeps between its statements (temporary tables, SET, USE).

A session belongs to its user, runs one statement at a time and ends after its idle timeout. An
analyst's session holds nothing (all that could be held is refused), so it is a lock and a clock only.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from bilten_orchestration.local.clickhouse import protocol
from bilten_orchestration.local.clickhouse.config import EndpointConfig
from bilten_orchestration.local.clickhouse.engine import Connection, EngineError


@dataclass
class Session:
    """`settings` are those of the statement at hand, with what the session had before (None: default)."""

    timeout: float
    busy: bool = False
    idle_since: float = 0.0
    connection: Connection | None = None
    settings: dict[str, str] = field(default_factory=dict)
    before: dict[str, str | None] = field(default_factory=dict)

    def prepare(self, wanted: dict[str, str]) -> Connection:
        """Put exactly these per-statement settings on top of the session's own. Blocks."""
        connection = self.connection
        if connection is None:
            raise EngineError(protocol.SESSION_NOT_FOUND, "Session not found (SESSION_NOT_FOUND)")
        stale = {name: self.before[name] for name in self.settings if name not in wanted}
        new = [name for name in wanted if name not in self.settings]
        if new:
            names = ", ".join("'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'" for name in new)
            found = connection.own(
                f"SELECT name, if(changed, value, '\\0') FROM system.settings WHERE name IN ({names})"
            )
            present = {}
            for line in found.decode().splitlines():
                name, _, value = line.partition("\t")
                present[name] = None if value == "\\0" else _unescaped(value)
            self.before |= {name: present.get(name) for name in new}
        changed = {name: value for name, value in wanted.items() if self.settings.get(name) != value}
        connection.apply(changed, stale)
        self.settings = dict(wanted)
        self.before = {name: self.before[name] for name in wanted}
        return connection


def _unescaped(value: str) -> str:
    return (
        value.replace("\\\\", "\0")
        .replace("\\t", "\t")
        .replace("\\n", "\n")
        .replace("\\'", "'")
        .replace("\0", "\\")
    )


class Sessions:
    """All open sessions of the endpoint, by user and id. Lives in the event loop's thread."""

    def __init__(self, config: EndpointConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._open: dict[tuple[str, str], Session] = {}

    @contextlib.asynccontextmanager
    async def use(self, call: protocol.Call) -> AsyncIterator[Session]:
        """The session of this call, locked for one statement; refusals carry the server's codes."""
        timeout = call.session_timeout or self._config.default_session_timeout_seconds
        if timeout > self._config.max_session_timeout_seconds:
            raise EngineError(
                protocol.INVALID_SESSION_TIMEOUT,
                f"Session timeout '{timeout}' is larger than max_session_timeout:"
                f" {self._config.max_session_timeout_seconds}. Maximum session timeout could be modified in"
                " configuration file. (INVALID_SESSION_TIMEOUT)",
            )
        await self.expire()
        key = (call.user, call.session_id)
        session = self._open.get(key)
        if session is None:
            if call.session_check:
                raise EngineError(
                    protocol.SESSION_NOT_FOUND, f"Session {call.session_id} not found (SESSION_NOT_FOUND)"
                )
            if len(self._open) >= self._config.max_sessions:
                raise EngineError(
                    protocol.TOO_MANY_SIMULTANEOUS_QUERIES,
                    f"Too many sessions: {len(self._open)} are open, max_sessions is"
                    f" {self._config.max_sessions}",
                )
            session = self._open[key] = Session(timeout)
        elif session.busy:
            raise EngineError(
                protocol.SESSION_IS_LOCKED,
                f"Session {call.session_id} is locked by a concurrent client. (SESSION_IS_LOCKED)",
            )
        session.busy, session.timeout = True, timeout
        try:
            yield session
        finally:
            session.busy, session.idle_since = False, self._clock()
            if call.close_session:
                await self._close([key])

    async def expire(self, *, everything: bool = False) -> None:
        """Close sessions that were idle for longer than their timeout."""
        now = self._clock()
        ended = [
            key
            for key, session in self._open.items()
            if not session.busy and (everything or now - session.idle_since > session.timeout)
        ]
        await self._close(ended)

    async def _close(self, keys: Iterable[tuple[str, str]]) -> None:
        # All leave the table before the first await: nobody can take up one that is being closed.
        for session in [self._open.pop(key) for key in keys]:
            if session.connection is not None:
                await asyncio.to_thread(session.connection.close)
