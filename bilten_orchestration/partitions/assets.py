"""One asset per table that is partitioned by month: it is materialized when its months are ready ahead."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import operational_key
from bilten_orchestration.partitions.declared import DECLARED, PartitionedTable
from bilten_orchestration.stores.resources import Platform

GROUP = "partitions"
POOL = "partitions"


def key(table: PartitionedTable) -> dg.AssetKey:
    return dg.AssetKey(["partitions", table.table])


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
    )
    for table in DECLARED
]


@dg.multi_asset(
    name="partitions",
    specs=[
        dg.AssetSpec(
            key(table),
            deps=[operational_key(table.name)],
            group_name=GROUP,
            description=(
                f"Partitions of {table.name}: {table.premake} months ready ahead, {table.retention} kept,"
                f" then {table.at_end.replace('_', ' ')}."
            ),
            owners=[face.DATA_PLATFORM],
            kinds={"postgres"},
            tags={"layer": "operational"},
            skippable=True,
        )
        for table in DECLARED
    ],
    can_subset=True,
    pool=POOL,
    retry_policy=face.RETRY,
    description="Makes the months that are missing, past gaps included.",
    op_tags={face.COMMAND: "bilten partitions list"},
)
def partitions(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    from bilten_orchestration.partitions.listing import list_partitions
    from bilten_orchestration.partitions.premake import premake

    with face.failures():
        report = premake(platform.settings, progress=context.log.info)
        rows, _ = list_partitions(platform.settings)
    for table in DECLARED:
        if key(table) in context.selected_asset_keys:
            found = [row for row in rows if row.table == table.name]
            yield dg.MaterializeResult(
                key(table),
                metadata={
                    "made": len(report.made[table.name]),
                    "partitions": len(found),
                    "bytes": sum(row.bytes for row in found),
                    "ready_until": report.last[table.name],
                },
            )
