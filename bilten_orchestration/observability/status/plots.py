"""How what is stored grows: an area per store as SVG, with its numbers in a table beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from typing import Final

from bilten_orchestration.observability.history import History
from bilten_orchestration.observability.units import size

#: By the first part of a level's subject.
PLOTS: Final[Mapping[str, str]] = {
    "postgres": "PostgreSQL",
    "clickhouse": "ClickHouse",
    "repository": "Backup repository",
}
_WIDTH: Final = 320
_HEIGHT: Final = 72
_LEFT: Final = 4
_TOP: Final = 16
_BOTTOM: Final = 16


def figures(history: History, days: Sequence[date]) -> str:
    return "".join(_figure(kind, title, totals(history, kind, days)) for kind, title in PLOTS.items())


def totals(history: History, kind: str, days: Sequence[date]) -> dict[date, int]:
    """Of all subjects of a kind, from the first day on that any is known. A day without a look has what
    the one before had; one of which nothing is known yet counts nothing."""
    subjects = sorted({subject for subject, _ in history.levels if subject.partition("/")[0] == kind})
    newest: dict[str, int] = {}
    found: dict[date, int] = {}
    for day in days:
        for subject in subjects:
            if (level := history.levels.get((subject, day))) is not None:
                newest[subject] = level.bytes
        if newest:
            found[day] = sum(newest.values())
    return found


def _figure(kind: str, title: str, known: Mapping[date, int]) -> str:
    if not known:
        return f"<figure><h3>{title}</h3><p><b class=unknown>? unknown</b>: not measured yet</p></figure>"
    days = list(known)
    last, first = known[days[-1]], known[days[0]]
    grown = last - first
    sign = "+" if grown >= 0 else "−"
    said = size(last)
    if len(known) > 1:
        said += f", {sign}{size(abs(grown))} since {days[0]:%b %d}"
    rows = "".join(
        f'<tr><th scope="row">{day:%Y-%m-%d}</th><td class="n">{size(value)}</td></tr>'
        for day, value in reversed(list(known.items()))
    )
    drawn = _drawn(kind, title, said, known) if len(known) > 1 else "<p>A line from the second day on.</p>"
    return (
        f"<figure><h3>{title}: {escape(said)}</h3>{drawn}"
        f'<details><summary>numbers of {title}</summary><table><thead><tr><th scope="col">day (UTC)</th>'
        f'<th scope="col" class="n">stored</th></tr></thead><tbody>{rows}</tbody></table></details></figure>'
    )


def _drawn(kind: str, title: str, said: str, known: Mapping[date, int]) -> str:
    days = list(known)
    highest = max(known.values()) or 1
    across = (_WIDTH - 2 * _LEFT) / (days[-1] - days[0]).days
    floor = _HEIGHT - _BOTTOM
    points = [
        f"{_LEFT + (day - days[0]).days * across:.1f},{floor - value / highest * (floor - _TOP):.1f}"
        for day, value in known.items()
    ]
    right = _WIDTH - _LEFT
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="plot-{kind}">'
        f'<title id="plot-{kind}">{title}: {escape(said)}</title>'
        f'<path class="area" d="M{_LEFT},{floor} L{" L".join(points)} L{right},{floor} Z"/>'
        f'<path class="edge" d="M{" L".join(points)}"/>'
        f'<path class="axis" d="M{_LEFT},{floor} H{right}"/>'
        f'<text x="{_LEFT}" y="11">{size(highest)}</text>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 3}">{days[0]:%b %d}</text>'
        f'<text x="{right}" y="{_HEIGHT - 3}" text-anchor="end">{days[-1]:%b %d}</text></svg>'
    )
