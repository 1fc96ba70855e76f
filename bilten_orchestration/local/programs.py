"""A server process, described: what is run, as whom, and how it is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Program:
    """One server. `environment` may hold secrets (so it is not in repr), `argv` never does."""

    name: str
    argv: tuple[str, ...]
    directory: Path
    port: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    as_server_user: bool = False
    """Native servers give up root (privileges.py); Python ones may lie under a home that only root reads."""
    files: tuple[Path, ...] = ()
    """What it reads at its start: when one of these changes, it is restarted."""
    stop_signal: Literal["TERM", "INT"] = "TERM"
    stop_seconds: int = 20
    start_seconds: int = 3
    """A program that ends sooner has failed to start; after the third time it is given up. supervisord looks
    once a second, so that with 1 a program that ends at once may count as started, for ever."""
    start_order: int = 100
