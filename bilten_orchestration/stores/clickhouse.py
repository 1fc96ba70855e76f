"""Clients of ClickHouse, over HTTP(S)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.settings import ClickHouseSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

Role = Literal["etl", "analyst"]


def connect(
    clickhouse: ClickHouseSettings, role: Role = "etl", *, database: str = "default", **settings: Any
) -> Client:
    """One client without an HTTP session, so that threads may share it. `settings` go to every query.

    Raises StoreUnavailable when the server does not let us in.
    """
    import logging

    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    # prints a line of its own for every error that it raises as well
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    if clickhouse.host is None:
        raise StoreUnavailable(
            "ClickHouse has no address",
            expected="BILTEN_CLICKHOUSE__HOST, or the embedded endpoint running",
            found="neither",
            next="bilten up",
        )
    user, password = (
        (clickhouse.user, clickhouse.password)
        if role == "etl"
        else (clickhouse.analyst_user, clickhouse.analyst_password)
    )
    try:
        return clickhouse_connect.get_client(
            host=clickhouse.host,
            port=clickhouse.port,
            secure=clickhouse.secure,
            username=user,
            password=password.get_secret_value(),
            database=database,
            connect_timeout=clickhouse.connect_timeout_seconds,
            send_receive_timeout=clickhouse.query_timeout_seconds,
            autogenerate_session_id=False,
            settings=settings or None,
        )
    except ClickHouseError as error:
        raise StoreUnavailable(
            f"ClickHouse at {clickhouse.host}:{clickhouse.port} does not let {user} in",
            expected="a connection",
            found=str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__,
            next="bilten status; bilten up starts the embedded endpoint",
        ) from None
