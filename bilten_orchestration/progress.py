"""How engines tell what they are doing, without knowing who listens.

The CLI passes a printer to stderr, an asset passes its logger, tests pass a list's append.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(text: str) -> None:
    """For callers that do not listen."""
