"""Errors of the database drivers as ours, so that retries and exit codes follow the types.

What may pass by itself is a TransientError: a lost connection, a full server, a lock that was not to be
had. The rest is terminal: the schema or the rights are not those of the migrations.

SQLSTATEs: PostgreSQL manual, appendix A. Codes of ClickHouse: src/Common/ErrorCodes.cpp there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bilten_orchestration.errors import BiltenError, StoreUnavailable, TerminalError, TransientError

# class 40 rolled back by a conflict, 53 out of disk, memory or connections; a lock or statement timeout
_PASSING_CLASSES = ("40", "53")
_PASSING_STATES = ("55P03", "57014")

_PASSING_CODES = {
    159: "a time limit",
    202: "too many queries at once",
    209: "a socket's time limit",
    210: "the network",
    241: "the memory limit",
    242: "a table that is read-only for now",
    243: "no room on disk",
    252: "too many parts",
    373: "a session that is in use",
    394: "a query that was cancelled",
    999: "Keeper",
}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of both drivers inside become BiltenErrors; `doing` completes 'PostgreSQL went away during ...'.

    Raises StoreUnavailable (no answer), TransientError (an answer that may be another one later) or
    TerminalError (a statement that was refused).
    """
    import psycopg
    from clickhouse_connect.driver import exceptions as clickhouse

    try:
        yield
    except BiltenError:
        raise
    except psycopg.Error as error:
        raise _of_postgres(error, doing) from error
    except clickhouse.Error as error:
        code = error.code
        if code is None and isinstance(error, clickhouse.OperationalError):
            raise _away("ClickHouse", doing, beneath(error)) from error
        if code in _PASSING_CODES:
            raise TransientError(
                f"ClickHouse could not do its part of {doing} now",
                expected="room for the query",
                found=f"{_PASSING_CODES[code]}: {_first_line(error)}",
                next="the same again; bilten status if it persists",
            ) from error
        raise _refused("ClickHouse", doing, error) from error


def _of_postgres(error: Exception, doing: str) -> BiltenError:
    import psycopg

    state = getattr(error, "sqlstate", None) or ""
    if state.startswith(_PASSING_CLASSES) or state in _PASSING_STATES:
        return TransientError(
            f"PostgreSQL could not do its part of {doing} now",
            expected="room, and locks within the time limit",
            found=f"{state}: {_first_line(error)}",
            next="the same again; bilten status if it persists",
        )
    if isinstance(error, psycopg.OperationalError):
        return _away("PostgreSQL", doing, error)
    return _refused("PostgreSQL", doing, error)


def _away(store: str, doing: str, error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(
        f"{store} went away during {doing}",
        expected="an answer",
        found=_first_line(error),
        next="bilten status; then the same again",
    )


def _refused(store: str, doing: str, error: Exception) -> TerminalError:
    return TerminalError(
        f"{store} refused a statement of {doing}",
        expected="the schema and the rights of the migrations",
        found=_first_line(error),
        next="bilten migrate status",
    )


def beneath(error: BaseException) -> BaseException:
    """What the system said, where it said something: a client of HTTP tells the whole address instead, with
    every setting in it."""
    found = error
    inner: BaseException | None = error
    while inner is not None:
        found = inner if isinstance(inner, OSError) else found
        inner = inner.__cause__ or inner.__context__
    return found


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:500] if text else type(error).__name__
