"""The `bilten` command as people and programs call it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from bilten_orchestration.settings import Settings

Environment = Callable[[Settings], dict[str, str]]


class HasSettings(Protocol):
    @property
    def settings(self) -> Settings: ...


def bilten(
    shop: HasSettings,
    environment: Environment,
    *arguments: str,
    timeout_seconds: float = 120,
    **changed: str,
) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-m", "bilten_orchestration.cli.main", *arguments],
        env=environment(shop.settings)
        | {"PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "80"}
        | changed,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert "Traceback" not in found.stdout + found.stderr
    for secret in (shop.settings.postgres.password, shop.settings.object_store.secret_access_key):
        assert secret.get_secret_value() not in found.stdout + found.stderr
    return found


def document(found: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(found.stdout)
