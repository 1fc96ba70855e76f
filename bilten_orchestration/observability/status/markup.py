"""Escaping, marks and times for people who read pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Final

from bilten_orchestration.observability.status import style

#: Class, sign and words of every state there is; the sign is for eyes, the words are for everybody.
MARKS: Final[Mapping[str, tuple[str, str, str]]] = {
    "kept": ("good", "✓", "kept"),
    "good": ("good", "✓", "good"),
    "ok": ("good", "✓", "ok"),
    "missed": ("bad", "✗", "missed"),
    "bad": ("bad", "✗", "bad"),
    "down": ("bad", "✗", "down"),
    "critical": ("bad", "✗", "critical"),
    "trouble": ("look", "!", "trouble"),
    "partly": ("look", "!", "partly"),
    "warning": ("look", "!", "warning"),
    "info": ("early", "i", "note"),
    "unknown": ("unknown", "?", "unknown"),
    "not_yet": ("early", "·", "not yet"),
}


def document(title: str, body: str, *, refresh_seconds: int | None = None) -> bytes:
    """A whole page. `body` is markup already."""
    again = "" if refresh_seconds is None else f'<meta http-equiv="refresh" content="{refresh_seconds}">'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>{again}<style>{style.SHEET}</style></head><body>{body}</body></html>"
    ).encode()


def marked(state: str) -> str:
    name, sign, words = MARKS[state]
    return f'<b class="{name}"><span aria-hidden="true">{sign}</span> {words}</b>'


def moment(at: datetime) -> str:
    """To the minute, in UTC."""
    utc = at.astimezone(UTC)
    return f'<time datetime="{utc:%Y-%m-%dT%H:%M:%SZ}">{utc:%b %d, %H:%M}</time>'


def linked(text: str, address: str) -> str:
    return f'<a href="{escape(address)}">{escape(text)}</a>' if address else escape(text)
