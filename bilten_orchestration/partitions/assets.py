"""One asset per table that is partitioned by time, materialized when its maintenance has run."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import operational_key
from bilten_orchestration.partitions.declared import CLICKHOUSE, DECLARED, PartitionedTable
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:
    from bilten_orchestration.partitions.clickhouse.months import Month

GROUP = "partitions"
POOL = "partitions"
SHOWN_MONTHS = 120
TABLES = (*DECLARED, *CLICKHOUSE)
# A run every day; one that is missed is noticed the same day.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=30), warn_window=timedelta(hours=26))


def key(table: PartitionedTable) -> dg.AssetKey:
    """`partitions/events` would not say which: the clickstream has its own name."""
    return dg.AssetKey(["partitions", "clickstream" if table.store == "clickhouse" else table.table])


def source(table: PartitionedTable) -> dg.AssetKey:
    """The table itself."""
    if table.store == "clickhouse":
        return dg.AssetKey(table.name.split("."))
    return operational_key(table.name)


OPERATIONAL = [
    dg.AssetSpec(
        operational_key(table.name),
        group_name=GROUP,
        description=(
            f"The table {table.name} in PostgreSQL, partitioned by {table.interval} of {table.column} (UTC)."
        ),
        owners=[face.DATA_PLATFORM],
        kinds={"postgres", "table"},
        tags={"layer": "operational"},
        metadata=face.BY_APPLICATION,
    )
    for table in DECLARED
]


@dg.multi_asset(
    name="partitions",
    specs=[
        dg.AssetSpec(
            key(table),
            deps=[source(table)],
            group_name=GROUP,
            description=(
                f"Partitions of {table.name}, by {table.interval}: "
                + (f"{table.premake} ready ahead, " if table.premake else "")
                + f"{table.retention} kept, then {table.at_end.replace('_', ' ')}."
            ),
            owners=[face.DATA_PLATFORM],
            kinds={table.store},
            tags={"layer": "operational"},
            skippable=True,
            freshness_policy=FRESHNESS,
        )
        for table in TABLES
    ],
    can_subset=True,
    pool=POOL,
    description="Makes partitions ahead; archives, proves and drops old ones; tells of drift.",
    op_tags={face.COMMAND: "bilten partitions apply"},
)
def partitions(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    from bilten_orchestration.partitions import run, standing
    from bilten_orchestration.partitions.listing import list_partitions
    from bilten_orchestration.partitions.markdown import of_table

    with face.step(context):
        report = run.apply(platform.settings, by="Dagster", run=context.run_id, progress=context.log.info)
        rows, _ = list_partitions(platform.settings)
    for problem in report.problems:
        context.log.warning(str(problem))
    for table in TABLES:
        if key(table) in context.selected_asset_keys:
            stands = standing.standing(table, rows, datetime.now(UTC))
            _, done = report.of(table.name)
            months = report.months.get(table.name)
            yield dg.MaterializeResult(
                key(table),
                metadata={
                    "partitions": stands.partitions,
                    "rows": stands.rows,
                    "bytes": stands.bytes,
                    "ahead": stands.ahead,
                    "kept": stands.kept,
                    **({"growth_rows": stands.growth_rows} if stands.growth_rows is not None else {}),
                    **({"growth_bytes": stands.growth_bytes} if stands.growth_bytes is not None else {}),
                    "made": sum(each.action.action == "create" for each in done),
                    "archived": sum(each.action.action == "archive" for each in done),
                    "dropped": sum(each.drops for each in done),
                    "expired": sum(each.action.action == "expire" for each in done),
                    "problems": len(report.problems_of(table.name)),
                    **(_of_months(months) if months is not None else {}),
                    "plan": dg.MetadataValue.md(of_table(table, report)),
                },
            )


def _of_months(months: "Sequence[Month]") -> dict[str, Any]:
    """Of ClickHouse, where inserts are slowed down by the parts of one month, whatever the sum is."""
    return {
        "parts": sum(month.parts for month in months),
        "most_parts": max((month.parts for month in months), default=0),
        "months": face.records(
            [
                {"month": str(m.period), "rows": m.rows, "bytes": m.bytes, "parts": m.parts}
                for m in reversed(months)
            ],
            limit=SHOWN_MONTHS,
        ),
    }
