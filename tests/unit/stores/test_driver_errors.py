from __future__ import annotations

import psycopg
import pytest
from clickhouse_connect.driver import exceptions as clickhouse

from bilten_orchestration.errors import BiltenError, LockHeld, StoreUnavailable, TerminalError, TransientError
from bilten_orchestration.stores.driver_errors import translated


@pytest.mark.parametrize(
    ("error", "expected", "told"),
    [
        (psycopg.OperationalError("server closed the connection"), StoreUnavailable, "PostgreSQL went away"),
        (psycopg.errors.AdminShutdown("terminating"), StoreUnavailable, "PostgreSQL went away"),
        (psycopg.errors.DiskFull("no space left"), TransientError, "53100: no space left"),
        (psycopg.errors.LockNotAvailable("lock timeout"), TransientError, "55P03: lock timeout"),
        (psycopg.errors.SerializationFailure("conflict"), TransientError, "40001: conflict"),
        (psycopg.errors.UndefinedTable("no such table"), TerminalError, "PostgreSQL refused"),
        (psycopg.errors.InsufficientPrivilege("denied"), TerminalError, "bilten migrate status"),
        (clickhouse.OperationalError("connection refused"), StoreUnavailable, "ClickHouse went away"),
        (clickhouse.DatabaseError("too much", code=241), TransientError, "the memory limit: too much"),
        (clickhouse.OperationalError("busy", code=202), TransientError, "too many queries at once"),
        (clickhouse.DatabaseError("unknown table", code=60), TerminalError, "ClickHouse refused"),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(
    error: Exception, expected: type[BiltenError], told: str
) -> None:
    with pytest.raises(BiltenError) as raised, translated("the sync"):
        raise error
    assert type(raised.value) is expected
    assert told in str(raised.value)
    assert "the sync" in str(raised.value)
    assert raised.value.__cause__ is error


def test_what_the_system_said_is_told_and_not_the_address_of_the_request() -> None:
    wrapped = clickhouse.OperationalError("Max retries exceeded with url: /?database=x")
    wrapped.__cause__ = ConnectionRefusedError(111, "Connection refused")
    with pytest.raises(StoreUnavailable) as raised, translated("the sync"):
        raise wrapped
    assert raised.value.problems[0].found == "[Errno 111] Connection refused"


def test_our_own_errors_and_strangers_pass_as_they_are() -> None:
    with pytest.raises(LockHeld), translated("the build"):
        raise LockHeld("held")
    with pytest.raises(ZeroDivisionError), translated("the build"):
        raise ZeroDivisionError
