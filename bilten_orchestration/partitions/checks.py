"""Check of the partitions: the months that writers need now and next are there."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.partitions.assets import key
from bilten_orchestration.partitions.declared import DECLARED
from bilten_orchestration.stores.resources import Platform


@dg.multi_asset_check(
    name="partitions_ready",
    specs=[
        dg.AssetCheckSpec(
            "current_and_next_month",
            asset=key(table),
            description="The partitions of this and the next month exist; without one every write fails.",
        )
        for table in DECLARED
    ],
    can_subset=True,
)
def months_ready(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    from bilten_orchestration.partitions.listing import list_partitions

    with face.failures():
        rows, problems = list_partitions(platform.settings)
    for table in DECLARED:
        check = dg.AssetCheckKey(key(table), "current_and_next_month")
        if check in context.selected_asset_check_keys:
            missing = [problem for problem in problems if problem.what.startswith(f"{table.name} ")]
            yield dg.AssetCheckResult(
                passed=not missing,
                asset_key=key(table),
                check_name=check.name,
                description="\n".join(map(str, missing)) or None,
                metadata={"partitions": sum(row.table == table.name for row in rows)},
            )
