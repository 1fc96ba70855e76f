"""`bilten search ...`."""

from __future__ import annotations

import typer

from bilten_orchestration.cli import search_query


def register(app: typer.Typer) -> None:
    search = typer.Typer(help="The events index.", no_args_is_help=True)
    search.command("query")(search_query.query)
    app.add_typer(search, name="search")
