"""When drills are held, and their promises judged."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.drills.plan import CRONS

if TYPE_CHECKING:  # not among the names that dagster exports
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition


def build_job(store: str, asset: dg.AssetsDefinition) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        f"{store}_drill",
        selection=dg.AssetSelection.assets(asset),
        owners=[face.DATA_PLATFORM],
        description=f"Restores {store} into a scratch place by the ways that are due, proves and attests it.",
        tags={face.COMMAND: f"bilten drill run {store}", face.HELP: "bilten drill list --verify"},
    )


def build_schedule(store: str, job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    cron, why = CRONS[store]

    @dg.schedule(
        name=f"{store}_drill_daily",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        owners=[face.DATA_PLATFORM],
        description=why,
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = f"{context.scheduled_execution_time:%F}"
        return dg.RunRequest(run_key=f"{store}-drill-{day}", partition_key=day)

    return daily


def build_promises(checks: Sequence[dg.AssetChecksDefinition]) -> "UnresolvedAssetJobDefinition":
    return dg.define_asset_job(
        "drill_promises",
        selection=dg.AssetSelection.checks(*checks),
        owners=[face.DATA_PLATFORM],
        description="RPO, RTO, the age of the newest drill and every way back, as they are attested.",
        tags={face.COMMAND: "bilten drill list --verify", face.HELP: "the description of a failed check"},
    )


def build_promises_schedule(job: "UnresolvedAssetJobDefinition") -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name="drill_promises_hourly",
        job=job,
        cron_schedule="55 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        owners=[face.DATA_PLATFORM],
        description="Also where no drill was held: a check inside a drill would never say so.",
    )
