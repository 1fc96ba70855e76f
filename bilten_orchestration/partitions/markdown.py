"""A run's plan for one table, as people read it in the UI."""

from __future__ import annotations

from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.run import RunReport

SHOWN_LINES = 60


def of_table(table: PartitionedTable, report: RunReport) -> str:
    """What was planned, why, and what became of it."""
    planned, done = report.of(table.name)
    carried_out = {(each.action.partition, each.action.action) for each in done}
    if not planned:
        return f"Nothing to do for {table.name}."
    lines = ["| partition | action | why | done |", "| --- | --- | --- | --- |"]
    for each in planned[:SHOWN_LINES]:
        end = (
            "yes" if (each.partition, each.action) in carried_out else "-" if each.action == "keep" else "no"
        )
        lines.append(f"| {each.partition} | {each.action} | {each.reason} | {end} |")
    if len(planned) > SHOWN_LINES:
        lines.append(f"\n{len(planned) - SHOWN_LINES} more: `bilten partitions plan`")
    return "\n".join(lines)
