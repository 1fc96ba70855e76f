"""When days are built: open ones by two schedules, closed ones that changed late by a sensor."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import SYNCED
from bilten_orchestration.ingestion.checks import (
    cells_are_whole,
    clicks_arrive,
    equal_to_postgres,
    sync_lag,
)
from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics.checks import no_day_is_refused, published_days_equal_postgres
from bilten_orchestration.metrics.days import DayRange
from bilten_orchestration.metrics.freshness import FINAL_CRON
from bilten_orchestration.metrics.late import late_runs
from bilten_orchestration.metrics.manifest import Mart
from bilten_orchestration.stores.resources import Platform

CONTROL_DAYS = 60
ALL_DAYS = 36_500
SUNDAY = 6
SENSOR_SECONDS = 300
DIRTY_TAG = "bilten/dirty_days"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True)
class Jobs:
    provisional: "face.Job"
    final: "face.Job"
    late: "face.Job"
    checks: "face.Job"

    def __iter__(self) -> "Iterator[face.Job]":
        return iter((self.provisional, self.final, self.late, self.checks))


def provisional_range(at: datetime) -> DayRange:
    """What the run at 04:00 UTC builds: yesterday and today, as far as they have come."""
    today = at.astimezone(UTC).date()
    return DayRange(today - day_rules.DAY, today)


def final_range(at: datetime) -> DayRange:
    """What the run at 13:00 UTC builds: the day that has just closed, those before it, and the open ones."""
    closed = day_rules.newest_over(at)
    return DayRange(closed - day_rules.DAY * (day_rules.CLOSED_DAYS - 1), closed + AHEAD_OF_CLOSED)


AHEAD_OF_CLOSED = timedelta(days=2)


def by_hand(days: DayRange) -> str:
    return f"bilten metrics build --from {days.first} --to {days.last}"


def request(
    days: DayRange,
    *,
    run_key: str,
    tags: Mapping[str, str] | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> dg.RunRequest:
    """One run for a contiguous range."""
    span = {RANGE_START: str(days.first), RANGE_END: str(days.last), face.COMMAND: by_hand(days)}
    return dg.RunRequest(run_key=run_key, tags={**span, **(tags or {})}, run_config=run_config)


def build_jobs(
    daily: dg.AssetsDefinition, whole: dg.AssetsDefinition, checks: Sequence[dg.AssetChecksDefinition]
) -> Jobs:
    marts = dg.AssetSelection.assets(daily)
    models = dg.AssetSelection.assets(whole)
    synced = dg.AssetSelection.assets(*(spec.key for spec in SYNCED))
    late = dg.AssetSelection.checks(
        *checks, published_days_equal_postgres, no_day_is_refused, sync_lag, clicks_arrive
    )
    # a reconciliation applies a batch of its own
    raw = synced - dg.AssetSelection.checks(equal_to_postgres, cells_are_whole)
    days_help = "the step's failure names days, marts and gates; bilten explain DAY EVENT METRIC"
    return Jobs(
        provisional=face.job(
            "metrics_provisional",
            (marts | models) - late,
            "Yesterday and today, as far as they have come; open days stay provisional.",
            on_failure=days_help,
        ),
        final=face.job(
            "metrics_final",
            (raw | marts | models) - (late - dg.AssetSelection.checks(published_days_equal_postgres)),
            "A sync with fresh control totals, then the day that has closed in every zone, with the four"
            " before it for late clicks; then dimensions and reports.",
            on_failure=days_help,
        ),
        late=face.job(
            "metrics_late_days",
            (marts | models) - late,
            "Closed days whose facts have changed, with every day that they reach into.",
            on_failure=days_help,
        ),
        checks=face.job(
            "data_checks",
            late,
            "Lag of the sync and of clicks, freshness of the marts, published days against PostgreSQL.",
            on_failure="the description of a failed check says what to do",
        ),
    )


def build_schedules(jobs: Jobs) -> list[dg.ScheduleDefinition]:
    @dg.schedule(
        name="metrics_provisional_daily",
        job=jobs.provisional,
        cron_schedule="0 4 * * *",
        description="Numbers of yesterday for the morning; provisional where the day is not over everywhere.",
        **face.SCHEDULED,
    )
    def provisional(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at = context.scheduled_execution_time
        return request(provisional_range(at), run_key=f"provisional-{at:%F}")

    @dg.schedule(
        name="metrics_final_daily",
        job=jobs.final,
        cron_schedule=FINAL_CRON,
        description=(
            "An hour after a day has ended in UTC-12. Control totals of the last 60 days are computed afresh"
            " before; on Sundays those of all days."
        ),
        **face.SCHEDULED,
    )
    def final(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at = context.scheduled_execution_time
        back = ALL_DAYS if at.weekday() == SUNDAY else CONTROL_DAYS
        return request(
            final_range(at),
            run_key=f"final-{at:%F}",
            run_config={"ops": {"raw": {"config": {"control_days_back": back}}}},
        )

    checks = face.schedule(
        "data_checks_hourly",
        jobs.checks,
        "50 * * * *",
        "Finds what no run would tell: that runs have not come, or came and left a difference.",
    )
    return [provisional, final, checks]


def late_days_sensor(jobs: Jobs, marts: Sequence[Mart]) -> dg.SensorDefinition:
    @dg.sensor(
        name="metrics_late_days",
        job=jobs.late,
        minimum_interval_seconds=SENSOR_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        owners=[face.DATA_PLATFORM],
        description="Builds closed days again whose facts have changed (corrections, late rows, moved zones),"
        " whose late clicks no daily run has taken, or that were provisional while a transaction was open.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        from bilten_orchestration.metrics import dirty, evidence, verdicts

        with platform.postgres("late days") as connection:
            causes = dirty.dirty_days(connection)
        with platform.clickhouse() as client:
            shown = verdicts.shown(client, marts)
            settled = evidence.newest(client).settled_until
        runs = late_runs(causes, shown, at=datetime.now(UTC), settled_until=settled)
        if not runs:
            return dg.SkipReason(
                f"{len(causes)} days are dirty: open ones, which schedules build, or ones never published"
                if causes
                else "no day is dirty"
            )
        return dg.SensorResult(
            run_requests=[
                request(run.days, run_key=run.key, tags={DIRTY_TAG: run.dirty[:200]}) for run in runs
            ]
        )

    return sensor
