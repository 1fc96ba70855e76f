"""Dagster's own history, kept to its days: what it holds, and what was removed from it."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.stores.resources import Platform

GROUP = "observability"
KEY = dg.AssetKey(["observability", "run_history"])
COMMAND = "bilten runs prune --execute"
BOUNDED = "bounded"


@dg.asset(
    key=KEY,
    # what names a run keeps it
    deps=[dg.AssetKey(["backups", "retention"])],
    group_name=GROUP,
    owners=[face.DATA_PLATFORM],
    kinds={"postgres", "s3"},
    tags={"layer": "operational"},
    pool="run_history",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50)),
    check_specs=[
        dg.AssetCheckSpec(
            BOUNDED,
            asset=KEY,
            description="No old run was left over by the limit of one clean-up (BILTEN_DAGSTER__PRUNE_RUNS):"
            " its history does not grow faster than it is removed.",
        )
    ],
    op_tags={face.COMMAND: COMMAND},
    description="Dagster's runs, events and logs without those whose days are over. What is the newest of an"
    " asset, a partition or a check, and what a backup or a drill names, stays for good.",
)
def run_history(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    from bilten_orchestration.observability.runs.prune import prune

    with face.step(context):
        report = prune(platform.settings, execute=True, progress=context.log.info)
    yield dg.MaterializeResult(
        metadata={
            "runs": report.runs - len(report.going),
            "removed_runs": len(report.going),
            "removed_events": report.events,
            "removed_log_objects": report.log_objects,
            "left_over": report.left_over,
            "database_bytes": report.bytes,
            **{f"kept/{reason.replace(' ', '_')}": count for reason, count in report.kept.items()},
        },
        check_results=[
            dg.AssetCheckResult(
                passed=report.left_over == 0,
                severity=dg.AssetCheckSeverity.WARN,
                check_name=BOUNDED,
                description=f"{report.left_over} old runs are left over; next: {COMMAND}"
                if report.left_over
                else None,
                metadata={"left_over": report.left_over, "removed_runs": len(report.going)},
            )
        ],
    )
