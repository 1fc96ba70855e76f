"""Numbers as people read them, on a page and in a terminal."""

from __future__ import annotations

from typing import Final

_SIZES: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


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
    return f"{value:,.4g} {unit}" if named else f"{value:,.4g}"


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
