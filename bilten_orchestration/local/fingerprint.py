"""Whether the code of a Python server has changed since it was started."""

from __future__ import annotations

import os
from pathlib import Path

from bilten_orchestration.settings import CHECKOUT

_SUFFIXES = (".py", ".sql", ".yml", ".yaml", ".csv")
_NOT_CODE = ("target", "logs", "__pycache__")


def fingerprint(*folders: str) -> str:
    """Changes with every source file below these folders of the checkout. Part of a program's
    environment, so that `up` restarts what runs older code."""
    newest, count = 0, 0
    for folder in folders:
        for directory, children, files in os.walk(CHECKOUT / folder):
            children[:] = [child for child in children if child not in _NOT_CODE]
            for file in files:
                if file.endswith(_SUFFIXES):
                    newest = max(newest, Path(directory, file).stat().st_mtime_ns)
                    count += 1
    return f"{count}-{newest}"
