"""Assembles the command from one module per domain; each imports its engine only when called."""

from __future__ import annotations

import importlib

import typer

app = typer.Typer(
    name="bilten",
    help="The data side of Bilten: stack, migrations, demo data, sync, metrics, backups.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Each module has `register(app)`, adding its commands or its own sub-command group.
DOMAINS = (
    "stack",
    "migrate",
    "demo",
    "sync",
    "metrics",
    "sql",
    "partitions",
    "backup",
    "restore",
    "wal",
    "drill",
    "search",
    "recover",
    "queries",
    "runs",
    "alerts",
    "health",
)


def build() -> typer.Typer:
    """The whole command."""
    if not app.registered_commands:
        for domain in DOMAINS:
            importlib.import_module(f"bilten_orchestration.cli.{domain}").register(app)
    return app


def main() -> None:
    """Entry point of the `bilten` script."""
    build()()


if __name__ == "__main__":
    main()
