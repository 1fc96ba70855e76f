"""stack.env: addresses and secrets of what the embedded stack started, as BILTEN_* variables.

The one place where they are kept. Written in one step (a reader sees the old file or the new one),
readable by its owner alone. Only variables of embedded servers are in it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from bilten_orchestration.local.privileges import server_file

HEADER = "# Written by `bilten up`: addresses and secrets of the embedded servers. Keep it to yourself.\n"

SECRETS = (
    "BILTEN_POSTGRES__PASSWORD",
    "BILTEN_POSTGRES__ETL_PASSWORD",
    "BILTEN_POSTGRES__APP_PASSWORD",
    "BILTEN_POSTGRES__READONLY_PASSWORD",
    "BILTEN_POSTGRES__DAGSTER_PASSWORD",
    "BILTEN_CLICKHOUSE__PASSWORD",
    "BILTEN_CLICKHOUSE__ANALYST_PASSWORD",
    "BILTEN_REDIS__PASSWORD",
    "BILTEN_OBJECT_STORE__ACCESS_KEY_ID",
    "BILTEN_OBJECT_STORE__SECRET_ACCESS_KEY",
    "BILTEN_SERVE__TOKEN",
)


def read(path: Path) -> dict[str, str]:
    """The variables in the file; none where there is no file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name: value for name, value in pairs}


def write(path: Path, variables: Mapping[str, str]) -> None:
    """Replace the file, unless it says the same already."""
    if read(path) == dict(variables):
        return
    server_file(
        path, HEADER + "".join(f"{name}={value}\n" for name, value in sorted(variables.items())), None
    )


def generate(name: str) -> str:
    """A new secret. 160 bits for passwords; an access key is 20 characters, as S3's are."""
    return secrets.token_hex(10).upper() if name.endswith("ACCESS_KEY_ID") else secrets.token_hex(20)
