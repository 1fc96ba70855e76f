"""Errors of the drivers as errors of the platform."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bilten_orchestration.errors import BiltenError, Mismatch, StoreUnavailable


@contextmanager
def translated() -> Iterator[None]:
    """A lost connection is a StoreUnavailable, a refused statement a Mismatch."""
    import psycopg
    from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

    try:
        yield
    except BiltenError:
        raise
    except psycopg.OperationalError as error:
        raise StoreUnavailable(
            "PostgreSQL went away during the sync",
            expected="an open connection",
            found=_first_line(error),
            next="bilten status; then the same command again: it goes on from the last whole batch",
        ) from error
    except psycopg.Error as error:
        raise Mismatch(
            "PostgreSQL refused a statement of the sync",
            expected="a schema as in sql/postgres, and the rights of V0009",
            found=_first_line(error),
            next="bilten migrate status",
        ) from error
    except OperationalError as error:
        raise StoreUnavailable(
            "ClickHouse went away during the sync",
            expected="an answer",
            found=_first_line(error),
            next="bilten status; then the same command again: it goes on from the last whole batch",
        ) from error
    except ClickHouseError as error:
        raise Mismatch(
            "ClickHouse refused a statement of the sync",
            expected="a schema as in sql/clickhouse",
            found=_first_line(error),
            next="bilten migrate status",
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:500] if text else type(error).__name__
