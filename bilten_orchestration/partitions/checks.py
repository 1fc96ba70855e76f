"""Checks of the partitions: enough is ahead, what is over is gone, queries prune, nobody changed them."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.partitions.assets import TABLES, key
from bilten_orchestration.stores.resources import Platform

NAMES = {
    "premake": "Partitions are there for the current and the next two intervals: without one every write"
    " fails. Warns below two ahead, fails below one.",
    "retention": "What is over is archived, proven and gone, or said why not; nothing hinders maintenance.",
    "pruning": "The common queries touch only the periods that they ask for.",
    "drift": "The catalogues hold what was recorded: nothing attached, detached, renamed or dropped by hand.",
}


@dg.multi_asset_check(
    name="partitions_judged",
    specs=[
        dg.AssetCheckSpec(name, asset=key(table), description=description)
        for table in TABLES
        for name, description in NAMES.items()
        if not (name == "premake" and table.store == "clickhouse")
    ],
    can_subset=True,
)
def partitions_judged(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    from bilten_orchestration.partitions.judged import judge

    with face.step(context):
        found = judge(platform.settings)
    for table in TABLES:
        for name in NAMES:
            check = dg.AssetCheckKey(key(table), name)
            if check in context.selected_asset_check_keys:
                judgement = found[table.name, name]
                yield dg.AssetCheckResult(
                    passed=not judgement.problems,
                    severity=dg.AssetCheckSeverity.ERROR if judgement.fails else dg.AssetCheckSeverity.WARN,
                    asset_key=key(table),
                    check_name=name,
                    description="\n".join(map(str, judgement.problems[: face.TOLD_PROBLEMS])) or None,
                    metadata={
                        "problems": len(judgement.problems),
                        **judgement.numbers,
                        **({"found": face.table(judgement.problems)} if judgement.problems else {}),
                    },
                )
