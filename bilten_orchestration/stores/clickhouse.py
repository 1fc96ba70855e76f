"""Clients of ClickHouse, over HTTP(S)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from bilten_orchestration.errors import AccessRefused, BiltenError, StoreUnavailable
from bilten_orchestration.settings import ClickHouseSettings
from bilten_orchestration.stores import origin
from bilten_orchestration.stores.driver_errors import beneath

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

Role = Literal["etl", "analyst"]

#: REQUIRED_PASSWORD, AUTHENTICATION_FAILED, UNKNOWN_USER, WRONG_PASSWORD, IP_ADDRESS_NOT_ALLOWED
_NOT_ACCEPTED = re.compile(r"Code: (?:192|193|194|195|516)\. DB::Exception: (.*?)(?: \(for url|$)")


def connect(
    clickhouse: ClickHouseSettings, role: Role = "etl", *, database: str = "default", **settings: Any
) -> Client:
    """One client without an HTTP session, so that threads may share it. `settings` go to every query.

    Raises StoreUnavailable when the server does not answer, AccessRefused when it does not accept user or
    password.
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
            settings=_told() | settings,
        )
    except ClickHouseError as error:
        raise _refusal(error, clickhouse, role, user) from None


def _told() -> dict[str, str]:
    found = origin.current()
    return {"log_comment": found.text} if found else {}


def _refusal(error: Exception, clickhouse: ClickHouseSettings, role: Role, user: str) -> BiltenError:
    text = str(error).strip()
    place = f"ClickHouse at {clickhouse.host}:{clickhouse.port}"
    if refused := _NOT_ACCEPTED.search(text):
        variable = "BILTEN_CLICKHOUSE__" + {"etl": "", "analyst": "ANALYST_"}[role] + "PASSWORD"
        return AccessRefused(
            f"{place} does not accept {user}",
            expected=f"the user {user}, with the password in {variable}",
            found=refused.group(1),
            next=f"set {variable}; with the embedded endpoint unset it, bilten up knows the password",
        )
    said = str(beneath(error)).strip()
    reason = said.splitlines()[0] if said else type(error).__name__
    return StoreUnavailable(
        f"{place} does not answer",
        expected=f"a connection as {user}",
        found=reason[:300],
        next="bilten status; bilten up starts the embedded endpoint",
    )
