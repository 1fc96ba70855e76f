"""Escaping, marks, numbers and times for people."""

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
_SIZES: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


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


def number(value: float, unit: str, *, named: bool = True) -> str:
    """In the unit that reads best; what is counted goes without its name where that stands beside it."""
    if unit == "seconds":
        return span(value)
    if unit == "hours":
        return span(value * 3600)
    if unit == "days":
        return span(value * 86_400)
    if unit == "bytes":
        return size(value)
    if unit == "percent":
        return f"{value:,.0f} %"
    return f"{value:,.4g} {escape(unit)}" if named else f"{value:,.4g}"


def span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:,.0f} min"
    if seconds < 2 * 86_400:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 86_400:,.1f} days"


def size(value: float) -> str:
    for least, unit in _SIZES:
        if value >= least:
            return f"{value / least:,.1f} {unit}"
    return f"{value:,.0f} B"
