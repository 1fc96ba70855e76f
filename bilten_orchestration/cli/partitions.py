"""`bilten partitions list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bilten_orchestration.cli import adopt, output

if TYPE_CHECKING:
    from bilten_orchestration.partitions.listing import PartitionRow


def register(app: typer.Typer) -> None:
    partitions = typer.Typer(help="Tables partitioned by month.", no_args_is_help=True)
    partitions.command("list")(list_)
    adopt.register(partitions)
    app.add_typer(partitions, name="partitions")


def list_(as_json: output.Json = False) -> None:
    """Every partition of the declared tables: bounds (UTC), rows (estimated), bytes."""
    with output.errors("partitions list", as_json=as_json):
        from bilten_orchestration.partitions.listing import list_partitions
        from bilten_orchestration.settings_loading import load_settings

        rows, problems = list_partitions(load_settings())
        output.finish(
            "partitions list",
            {"partitions": rows},
            as_json=as_json,
            problems=problems,
            human=lambda: _show(rows),
        )


def _show(rows: list[PartitionRow]) -> None:
    width = max((len(row.partition) for row in rows), default=0)
    for row in rows:
        bounds = f"{row.from_at:%F} to {row.to_at:%F}" if row.from_at and row.to_at else "unbounded"
        print(f"{row.partition:<{width}}  {bounds}  {row.state:<9}  ~{row.rows} rows  {row.bytes} bytes")
