"""When drills are held, and their promises judged."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Sequence

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.drills.plan import CRONS, Drilled


def build_job(store: Drilled, asset: dg.AssetsDefinition) -> "face.Job":
    return face.job(
        f"{store}_drill",
        dg.AssetSelection.assets(asset),
        f"Brings {store} back in a scratch place by the ways that are due, attests the proofs.",
        by_hand=f"bilten drill run {store}",
        on_failure="bilten drill list --verify",
    )


def build_schedule(store: Drilled, job: "face.Job") -> dg.ScheduleDefinition:
    cron, why = CRONS[store]

    @dg.schedule(name=f"{store}_drill_daily", job=job, cron_schedule=cron, description=why, **face.SCHEDULED)
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = f"{context.scheduled_execution_time:%F}"
        return dg.RunRequest(run_key=f"{store}-drill-{day}", partition_key=day)

    return daily


def build_promises(checks: Sequence[dg.AssetChecksDefinition]) -> "face.Job":
    return face.job(
        "drill_promises",
        dg.AssetSelection.checks(*checks),
        "RPO, RTO, the age of the newest drill and every way back, as they are attested.",
        by_hand="bilten drill list --verify",
        on_failure="the description of a failed check",
    )


def build_promises_schedule(job: "face.Job") -> dg.ScheduleDefinition:
    return face.schedule(
        "drill_promises_hourly",
        job,
        "55 * * * *",
        "Also where no drill was held: a check inside a drill would never say so.",
    )
