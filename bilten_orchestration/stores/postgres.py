"""Connections to PostgreSQL.

Every connection names itself (application_name, 63 bytes at most, with the short run id) and pins
TimeZone=UTC, so that no result depends on the server's or the shell's zone.
"""

from __future__ import annotations

from typing import Any, Literal

import psycopg
from psycopg.rows import TupleRow
from pydantic import SecretStr

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.settings import PostgresSettings

Role = Literal["owner", "etl", "dagster"]
Connection = psycopg.Connection[TupleRow]


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
        "application_name": application_name.encode()[:63].decode(errors="ignore"),
        "options": "-c TimeZone=UTC -c DateStyle=ISO -c extra_float_digits=1",
    }


def connect(
    postgres: PostgresSettings,
    role: Role = "owner",
    *,
    application_name: str = "bilten",
    autocommit: bool = False,
    database: str | None = None,
) -> Connection:
    """One connection. Raises StoreUnavailable when the server does not let us in."""
    kwargs = parameters(postgres, role, application_name=application_name)
    if database is not None:
        kwargs["dbname"] = database
    try:
        return psycopg.connect(autocommit=autocommit, **kwargs)
    except psycopg.OperationalError as error:
        raise StoreUnavailable(
            f"PostgreSQL at {postgres.host}:{postgres.port} does not let {kwargs['user']}"
            f" into {kwargs['dbname']}",
            expected="a connection",
            found=str(error).strip().splitlines()[-1],
            next="bilten status; bilten up starts the embedded server",
        ) from None


def _credentials(postgres: PostgresSettings, role: Role) -> tuple[str, SecretStr, str]:
    match role:
        case "owner":
            return postgres.user, postgres.password, postgres.database
        case "etl":
            return postgres.etl_user, postgres.etl_password, postgres.database
        case "dagster":
            return postgres.dagster_user, postgres.dagster_password, postgres.dagster_database
