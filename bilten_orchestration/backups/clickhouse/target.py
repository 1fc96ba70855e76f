"""Another server to restore onto, by its address."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from pydantic import SecretStr

from bilten_orchestration.errors import UsageError
from bilten_orchestration.settings import ClickHouseSettings

PASSWORD_VARIABLE = "CLICKHOUSE_PASSWORD"  # noqa: S105 - as ClickHouse's own client calls it


def of_url(url: str, settings: ClickHouseSettings) -> ClickHouseSettings:
    """Settings of the server at http(s)://[USER@]HOST:PORT; user and password are ours where it names none.

    Raises UsageError for anything else, a password in it too: arguments are visible to every user.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port or parts.path not in ("", "/"):
        raise UsageError(
            "that is no address of a ClickHouse",
            expected="http(s)://[USER@]HOST:PORT",
            found=url if parts.password is None and "@" not in url else "another form",
        )
    if parts.password is not None:
        raise UsageError(
            "a password in an address is visible to every user of this machine",
            expected=f"it in the variable {PASSWORD_VARIABLE}",
            found="it in --to-url",
        )
    password = os.environ.get(PASSWORD_VARIABLE)
    return settings.model_copy(
        update={
            "host": parts.hostname,
            "port": port,
            "secure": parts.scheme == "https",
            **({"user": parts.username} if parts.username else {}),
            **({"password": SecretStr(password)} if password is not None else {}),
        }
    )
