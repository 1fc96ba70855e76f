"""What commands of `bilten recover` have in common: an option, and how stores that follow are shown."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bilten_orchestration.recovery.settled import SettledReport

Rebuild = Annotated[
    bool,
    typer.Option(
        "--rebuild/--no-rebuild", help="Build the touched days at once, or leave them to the sensor."
    ),
]


def wrapped(text: str) -> None:
    print(textwrap.fill(text, 80, subsequent_indent="   ", break_long_words=False, break_on_hyphens=False))


def show_settled(settled: SettledReport) -> None:
    verdict = "equal" if settled.equal else "NOT EQUAL"
    wrapped(f"PostgreSQL and ClickHouse: {verdict}, {settled.rows:,} rows compared (batch {settled.batch})")
    if settled.built is None:
        print(f"{len(settled.days)} days touched, left to the sensor")
    else:
        print(f"{len(settled.days)} days touched, {len(settled.built)} published days built again")
    if settled.search is not None:
        verdict = "equal" if settled.search.equal else "NOT EQUAL"
        wrapped(f"PostgreSQL and search: {verdict}, {settled.search.documents:,} documents compared")
