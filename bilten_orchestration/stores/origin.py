"""Which run of Dagster this process works for: told to both databases with every statement.

Whoever looks at a statement that hurts, in pg_stat_activity, a log or system.query_log, finds the run and the
asset that asked for it. PostgreSQL has a short form in application_name, which it cuts at 63 bytes, and the
whole in a comment behind each statement; ClickHouse has the whole in log_comment, dbt in the comment that it
writes itself. What people call by hand has no origin.

One per process: the steps of a run come one after another, and what a process does is done for the one it
is at, in whatever thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: What dbt hands on into its comments and artifacts (its own prefix for that).
DBT_VARIABLE = "DBT_ENV_CUSTOM_ENV_ORIGIN"
# what is left can neither end a comment nor be a placeholder of a driver
_UNSAFE = re.compile(r"[^A-Za-z0-9_.,:=/ -]")
_ASSETS_BYTES = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """`run` is the id of a run of Dagster, `assets` are keys by their user string."""

    run: str
    assets: tuple[str, ...]

    @property
    def short(self) -> str:
        return self.run[:8]

    @property
    def text(self) -> str:
        """`run=<id> assets=<key>,<key>`, cut where the assets are many."""
        assets = ",".join(self.assets)
        if len(assets) > _ASSETS_BYTES:
            assets = f"{assets[:_ASSETS_BYTES]}..."
        return _UNSAFE.sub("_", f"run={self.run} assets={assets}")


_current: Origin | None = None


def current() -> Origin | None:
    return _current


@contextmanager
def working_for(origin: Origin) -> Iterator[None]:
    """What connects within tells of `origin`."""
    global _current
    before, _current = _current, origin
    try:
        yield
    finally:
        _current = before
