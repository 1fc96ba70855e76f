"""30 days in a table: a row per subject, a cell per day. Who cannot see colours reads the signs, and who
hears the page hears each day's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from html import escape
from typing import Final

from bilten_orchestration.observability.history import Cell, History
from bilten_orchestration.observability.status.markup import MARKS, linked
from bilten_orchestration.observability.status.topics import topic

#: Subjects that are always there, in their order (the drill of search where search is on), with what they
#: lead to in Dagster; those of the watchdog's samples come with their promises.
ROWS: Final[Mapping[str, tuple[str, str]]] = {
    "drills/postgres": ("Drills, postgres", "/assets/drills/postgres"),
    "drills/clickhouse": ("Drills, clickhouse", "/assets/drills/clickhouse"),
    "drills/redis": ("Drills, redis", "/assets/drills/redis"),
    "drills/search": ("Drills, search", "/assets/drills/search"),
    "backups/postgres": ("Backups, postgres", "/assets/backups/postgres"),
    "backups/clickhouse": ("Backups, clickhouse", "/assets/backups/clickhouse"),
    "backups/redis": ("Backups, redis", "/assets/backups/redis"),
    "metrics": ("Metrics", "/assets/marts"),
}
_OF_SEARCH: Final = "drills/search"
_EVERY: Final = 7


def table(history: History, days: list[date], dagster: str, *, search: bool) -> str:
    rows = [
        (subject, title, path) for subject, (title, path) in ROWS.items() if search or subject != _OF_SEARCH
    ]
    rows += [(name, topic(name).title, topic(name).path) for name in _sampled(history)]
    if search and not any(name == "search_lag" for name, _, _ in rows):
        rows.append(("search_lag", topic("search_lag").title, topic("search_lag").path))
    heads = "".join(_head(day, number, len(days)) for number, day in enumerate(days))
    lines = "".join(
        f'<tr><th scope="row">{linked(title, dagster + path)}</th>{_cells(history, subject, days)}</tr>'
        for subject, title, path in rows
    )
    return (
        f'<table class="strips"><caption class="soft">{days[0]:%b %d} to {days[-1]:%b %d} (UTC), today last:'
        f" {_legend()}</caption>"
        f'<thead><tr><th scope="col">what</th>{heads}</tr></thead><tbody>{lines}</tbody></table>'
    )


def _sampled(history: History) -> list[str]:
    names = {subject for subject, _ in history.cells if subject not in ROWS}
    return sorted(names, key=lambda name: (name != "search_lag", name))


def _head(day: date, number: int, count: int) -> str:
    shown = f"{day:%d}" if (count - 1 - number) % _EVERY == 0 else ""
    seen = f'<span aria-hidden="true">{shown}</span>' if shown else ""
    return f'<th scope="col">{seen}<span class="hidden">{day:%b %d}</span></th>'


def _cells(history: History, subject: str, days: Iterable[date]) -> str:
    return "".join(_cell(history.cell(subject, day)) for day in days)


def _cell(cell: Cell) -> str:
    name, sign, words = MARKS[cell.state]
    said = f"{words}: {cell.said}"
    return (
        f'<td class="{name}" title="{cell.day:%b %d}, {escape(said)}"><span aria-hidden="true">{sign}</span>'
        f'<span class="hidden">{escape(said)}</span></td>'
    )


def _legend() -> str:
    shown = ("good", "partly", "bad", "not_yet", "unknown")
    return ", ".join(f"{MARKS[state][1]} {MARKS[state][2]}" for state in shown)
