"""Errors of the database drivers as ours, so that retries and exit codes follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bilten_orchestration.errors import BiltenError, StoreUnavailable, TerminalError


@contextmanager
def told(doing: str) -> Iterator[None]:
    """`doing` completes the sentence 'PostgreSQL went away during ...'."""
    import psycopg
    from clickhouse_connect.driver import exceptions as clickhouse

    try:
        yield
    except BiltenError:
        raise
    except psycopg.OperationalError as error:
        raise _away("PostgreSQL", doing, error) from error
    except clickhouse.OperationalError as error:
        raise _away("ClickHouse", doing, error) from error
    except (psycopg.Error, clickhouse.ClickHouseError) as error:
        raise TerminalError(
            f"a statement of {doing} was refused",
            expected="the schema and rights of the migrations",
            found=_first_line(error),
            next="bilten migrate status",
        ) from error


def _away(store: str, doing: str, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"{store} went away during {doing}",
        expected="an answer",
        found=_first_line(error),
        next="bilten status; then the same again: it goes on where it was",
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:500] if text else type(error).__name__
