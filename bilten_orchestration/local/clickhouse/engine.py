"""The one chdb engine of this process: connections, running, streaming, killing.

How chdb behaves, as measured on 4.4 (ClickHouse 26.9): one engine a process; any number of connections
to it, each a ClickHouse session of its own (settings, current database, temporary tables, roles), which
cost 0.4 ms and may run at the same time from different threads, one statement each. So a statement gets
a connection of its own and settings cannot leak; a session (session_id) keeps one.

Results leave the engine through a pipe: `INTO OUTFILE '/proc/self/fd/N'` makes the engine's own output
format write there, so any format streams with the right header and footer and memory stays flat (the
binding's streaming cursor repeats headers in every block). A slow reader stops the engine by itself.

The engine makes up query ids and knows one user. The HTTP query id and user therefore travel in the
setting `chdb_client_name`, which nothing else uses: it is visible in system.processes.Settings, by which
a query is killed, and system.query_log is a view that shows both in their usual columns.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bilten_orchestration.local.clickhouse import statement
from bilten_orchestration.local.clickhouse.config import EndpointConfig
from bilten_orchestration.local.clickhouse.engine_config import (
    ANALYST_ROLE,
    QUERY_LOG_STORE,
    engine_path,
    write_engine_config,
)
from bilten_orchestration.local.clickhouse.grants import VISIBLE_DATABASES

TAG_SETTING = "chdb_client_name"
#: Statements of the endpoint itself begin so; the view leaves them out.
_OWN = "/* endpoint */ "

#: Where chdb starts with other defaults than a server.
_SERVER_DEFAULTS = {
    "implicit_select": "0",
    "storage_file_read_method": "pread",
    "allow_introspection_functions": "0",
    "output_format_arrow_use_native_writer": "1",
    "materialize_statistics_on_insert": "1",
}

#: The engine's memory is one limit, and some queries run side by side. A join, a sort or an aggregation may
#: hold a share of it before it goes to disk, and an analyst's query gets as many threads as shares are free.
_SHARES = 8
_SPILLING = ("group_by", "sort", "distinct", "join")


def quoted(value: str) -> str:
    """A string literal of ClickHouse's SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


#: What the endpoint adds to a statement, to be left out of the log; a regular expression in a literal.
_OUTFILE = r"\\n?INTO OUTFILE ''/proc/self/fd/[0-9]+'' TRUNCATE ?"

#: The HTTP query id and user inside the tag, as SQL over a Settings map.
_TAG = f"Settings['{TAG_SETTING}']"
QUERY_ID = f"substring({_TAG}, position({_TAG}, ':') + 1)"
USER = f"splitByChar(':', {_TAG})[1]"


def identifier(name: str) -> str:
    """A quoted identifier of ClickHouse's SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


_VISIBLE = ", ".join(f"'{database}'" for database in sorted(VISIBLE_DATABASES))
#: Rows of the metadata tables that are about other databases are not an analyst's.
_ANALYST_FILTERS = (
    "{"
    + ", ".join(
        f"'system.{table}': {quoted(f'{column} IN ({_VISIBLE})')}"
        for table, column in (("tables", "database"), ("columns", "database"), ("databases", "name"))
    )
    + "}"
)

_CODE = re.compile(r"Code: (\d+)\.")
_PLAIN_VALUE = re.compile(r"[\w.,:;+/@* ()\[\]'-]*")


class EngineError(Exception):
    """An exception of the engine: ClickHouse's code and its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def of(cls, error: BaseException) -> "EngineError":
        text = str(error).strip()
        found = _CODE.search(text)
        # 1002 is the server's own code for "unknown exception".
        code = int(found.group(1)) if found else 1002
        if found:
            text = text[found.start() :]
        return cls(code, text)


@dataclass(frozen=True)
class Totals:
    """What a finished statement read and wrote, as the engine counted it."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    elapsed_ns: int = 0
    body: bytes = b""

    def summary(self) -> dict[str, str]:
        return {
            "read_rows": str(self.read_rows),
            "read_bytes": str(self.read_bytes),
            "written_rows": str(self.written_rows),
            "written_bytes": str(self.written_bytes),
            "total_rows_to_read": str(self.read_rows),
            "result_rows": str(self.result_rows),
            "result_bytes": str(len(self.body)),
            "elapsed_ns": str(self.elapsed_ns),
        }


def _totals(result: Any, body: bytes, started: float) -> Totals:
    return Totals(
        read_rows=result.storage_rows_read(),
        read_bytes=result.storage_bytes_read(),
        written_rows=result.rows_written(),
        written_bytes=result.bytes_written(),
        result_rows=result.rows_read(),
        elapsed_ns=int((time.monotonic() - started) * 1e9),
        body=body,
    )


class Connection:
    """One ClickHouse session of the engine. Not for two threads at once; every call blocks."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._lock = threading.Lock()
        #: Names of parameters that were bound here: the engine keeps them as long as the connection.
        self.bound: set[str] = set()

    def run(
        self, sql: str, output_format: str = "TabSeparated", params: Mapping[str, str] | None = None
    ) -> Totals:
        """Run one statement and keep its whole answer in memory; for small answers."""
        started = time.monotonic()
        try:
            result = self._raw.query(sql, output_format, params=dict(params or {}))
        except RuntimeError as error:
            raise EngineError.of(error) from None
        return _totals(result, result.bytes() or b"", started)

    def stream(self, sql: str, output_format: str, params: Mapping[str, str], write_fd: int) -> Totals:
        """Run a statement that answers with rows into the pipe; returns when all of it is written."""
        try:
            return self.run(statement.into_file(sql, f"/proc/self/fd/{write_fd}"), output_format, params)
        except EngineError as error:
            if error.code != 62:
                raise
        # A syntax error is the client's (then its message must show the client's text), or this
        # statement takes no INTO OUTFILE (then it is small). Nothing was executed.
        return self.run(sql, output_format, params)

    @contextlib.contextmanager
    def insert(self, head: statement.InsertHead) -> Iterator["Insert"]:
        """A streaming INSERT; what is not finished when the block ends is cancelled."""
        started = time.monotonic()
        try:
            handle = self._raw.send_insert(statement.utf8(head.statement), head.format)
        except RuntimeError as error:
            raise EngineError.of(error) from None
        insert = Insert(self._raw, handle, started)
        try:
            yield insert
        finally:
            insert.cancel()

    def own(self, sql: str) -> bytes:
        """A statement of the endpoint itself, left out of system.query_log."""
        return self.run(_OWN + sql).body

    def apply(self, settings: Mapping[str, str], stale: Mapping[str, str | None] | None = None) -> None:
        """SET for this connection; `stale` ones go back to a value or (None) to their default."""
        changes = [
            f"{identifier(name)} = {'DEFAULT' if value is None else quoted(value)}"
            for name, value in [*(stale or {}).items(), *settings.items()]
        ]
        if changes:
            self.own(f"SET {', '.join(changes)}")

    def bind(self, params: Mapping[str, str]) -> None:
        """Parameters of the statements that follow on this connection, as `SET param_name` gives them."""
        self.bound |= params.keys()
        self.own(
            "SET "
            + ", ".join(f"{identifier(f'param_{name}')} = {quoted(value)}" for name, value in params.items())
        )

    def close(self) -> None:
        with self._lock:
            if self._raw is not None:
                self._raw.close()
                self._raw = None


class Insert:
    """Chunks of formatted data into one INSERT."""

    def __init__(self, raw: Any, handle: Any, started: float) -> None:
        self._raw, self._handle, self._started = raw, handle, started

    def append(self, chunk: bytes) -> None:
        try:
            self._raw.insert_append(self._handle, chunk)
        except RuntimeError as error:
            raise EngineError.of(error) from None

    def finish(self) -> Totals:
        """Commit; when this returns the rows survive a kill of the process."""
        try:
            result = self._raw.insert_done(self._handle)
        except RuntimeError as error:
            raise EngineError.of(error) from None
        finally:
            self._handle = None
        return _totals(result, b"", self._started)

    def cancel(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(RuntimeError):
                self._raw.insert_cancel(self._handle)
            self._handle = None


class Engine:
    """The engine of this process. Start once, close once."""

    def __init__(self, config: EndpointConfig) -> None:
        # Half a second and 250 MB: only the process that runs the engine pays for it.
        from chdb import _chdb

        engine: Any = _chdb
        self._connect: Callable[[str], Any] = engine.connect
        # The engine must not take SIGTERM from the HTTP server.
        engine.set_signal_handlers_enabled(False)
        self._config = config
        self._path = engine_path(config)
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        config_file = write_engine_config(config)
        self._root = Connection(self._connect(f"{self._path}?config-file={config_file}"))
        self._root_lock = threading.Lock()
        self._settings: frozenset[str] = frozenset()
        self._bootstrap()

    def _bootstrap(self) -> None:
        self._settings = frozenset(self._root.own("SELECT name FROM system.settings").decode().split())
        self._root.own("SYSTEM FLUSH LOGS")
        self._root.own(
            f"""CREATE OR REPLACE VIEW system.query_log AS
            SELECT * REPLACE (
                if({_TAG} = '', user, {USER}) AS user,
                if({_TAG} = '', initial_user, {USER}) AS initial_user,
                if({_TAG} = '', query_id, {QUERY_ID}) AS query_id,
                if({_TAG} = '', initial_query_id, {QUERY_ID}) AS initial_query_id,
                replaceRegexpOne(query, '{_OUTFILE}', '') AS query,
                mapFilter((name, value) -> name != '{TAG_SETTING}', Settings) AS Settings)
            FROM system.{QUERY_LOG_STORE}
            WHERE NOT startsWith(query, '{_OWN.strip()}')"""
        )

    def defaults(self, *, analyst: bool = False) -> dict[str, str]:
        """Settings of a session that asks for none.

        A server grants a query one thread per free GiB, which here is one thread for all. An analyst waits
        for a query; statements of a build run side by side, are not slower with one each, and each thread
        holds memory.
        """
        # The engine's own share before it spills is half of a query's limit, which leaves no room for two.
        share = str(self._config.max_server_memory_bytes // _SHARES)
        return (
            _SERVER_DEFAULTS
            | {"max_memory_usage": str(self._config.max_query_memory_bytes)}
            | {f"max_bytes_before_external_{what}": share for what in _SPILLING}
            | ({"max_threads_min_free_memory_per_thread": share} if analyst else {})
        )

    def open(self, settings: Mapping[str, str], *, analyst: bool = False) -> Connection:
        """A new session with these settings; an analyst's takes the narrow role and can set nothing."""
        wanted = self.defaults(analyst=analyst) | dict(settings)
        # The connection string is the cheap way, but it ignores unknown names and takes no "&": what it
        # cannot carry, SET does, with the engine's own errors.
        inline = {
            name: value
            for name, value in wanted.items()
            if name in self._settings and _PLAIN_VALUE.fullmatch(value)
        }
        arguments = "&".join(f"{name}={value}" for name, value in inline.items())
        try:
            connection = Connection(self._connect(f"{self._path}?{arguments}"))
        except RuntimeError as error:
            raise EngineError.of(error) from None
        try:
            rest = {name: value for name, value in wanted.items() if name not in inline}
            if analyst:
                connection.own(f"SET ROLE {ANALYST_ROLE}")
                # Last, for nothing can be set after it.
                rest |= {"additional_table_filters": _ANALYST_FILTERS, "readonly": "1"}
            connection.apply(rest)
        except EngineError:
            connection.close()
            raise
        return connection

    def control(self, sql: str) -> bytes:
        """A short statement of the endpoint itself, with all rights."""
        with self._root_lock:
            return self._root.own(sql)

    def kill(self, tag: str) -> None:
        """Ask the engine to end the query with this tag; returns at once."""
        self.control(f"KILL QUERY WHERE Settings['{TAG_SETTING}'] = {quoted(tag)} ASYNC FORMAT Null")

    def kill_all(self) -> None:
        self.control(f"KILL QUERY WHERE Settings['{TAG_SETTING}'] != '' ASYNC FORMAT Null")

    def progress(self, tag: str) -> Totals | None:
        """What a running query did so far."""
        row = self.control(
            "SELECT read_rows, read_bytes, written_rows, written_bytes, toUInt64(elapsed * 1e9)"
            " FROM system.processes"
            f" WHERE Settings['{TAG_SETTING}'] = {quoted(tag)} LIMIT 1"
        ).split()
        if not row:
            return None
        read_rows, read_bytes, written_rows, written_bytes, elapsed_ns = map(int, row)
        return Totals(read_rows, read_bytes, written_rows, written_bytes, 0, elapsed_ns)

    def close(self) -> None:
        with self._root_lock:
            with contextlib.suppress(EngineError):
                self._root.run("SYSTEM FLUSH LOGS")
            self._root.close()
