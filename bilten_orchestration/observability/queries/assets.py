"""The weekly advice, whose report is Markdown in the metadata, and the key figures of every hour."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.observability.queries import checks
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:
    from bilten_orchestration.observability.queries.figures import Outcome

GROUP = "observability"
# Whose outcomes are counted (backups/schedules.py has these jobs).
BACKUP_JOBS = {
    "postgres_full_backup": "postgres",
    "postgres_incremental_backup": "postgres",
    "postgres_logical_backup": "postgres",
    "clickhouse_full_backup": "clickhouse",
    "clickhouse_incremental_backup": "clickhouse",
    "redis_full_backup": "redis",
}
# A run every week; one that is missed is noticed the day after.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))


@dg.asset(
    key=["observability", "advice"],
    group_name=GROUP,
    owners=[face.DATA_PLATFORM],
    kinds={"postgres", "clickhouse"},
    tags={"layer": "operational"},
    freshness_policy=FRESHNESS,
    check_specs=checks.specs(dg.AssetKey(["observability", "advice"])),
    op_tags={face.COMMAND: "bilten advice"},
    description="What to index, drop and vacuum, which statements became slower, and what is slow or fails in"
    " ClickHouse: each line with its statement and the expected gain. Never applied by itself.",
)
def advice(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    from bilten_orchestration.observability.queries.advice import advise
    from bilten_orchestration.observability.queries.markdown import of_advice

    with face.step(context):
        report = advise(platform.settings, progress=context.log.info)
    yield dg.MaterializeResult(
        metadata={
            "to_index": report.count("index"),
            "to_drop": report.count("drop"),
            "to_rebuild": report.count("rebuild"),
            "to_vacuum": report.count("vacuum"),
            "to_analyze": report.count("analyze"),
            "gain_bytes": report.gain_bytes,
            "regressions": len(report.weeks.regressions),
            "statements_compared": report.weeks.compared,
            "clickhouse_slow": len(report.clickhouse_slow or ()),
            "clickhouse_failing": len(report.clickhouse_failing or ()),
            "problems": len(report.problems),
            "report": dg.MetadataValue.md(of_advice(report)),
        },
        check_results=checks.results(report),
    )


FIGURES_KEY = dg.AssetKey(["analytics", "platform_figures"])


@dg.asset(
    key=FIGURES_KEY,
    group_name=GROUP,
    owners=[face.DATA_PLATFORM],
    kinds={"postgres", "clickhouse", "table"},
    tags={"layer": "analytics"},
    metadata={"dagster/table_name": "analytics.platform_figures"},
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=4), warn_window=timedelta(hours=2)
    ),
    check_specs=checks.figure_specs(FIGURES_KEY),
    description="Key figures of the platform per hour: response times, cache hits, connections, sizes and"
    " backups. Rolled up from the watchdog's samples; rpt_database_hourly and rpt_backups_daily read it.",
)
def platform_figures(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    from bilten_orchestration.observability.queries import figures

    with face.step(context):
        span = figures.span(platform.settings)
        report = figures.roll_up(
            platform.settings, span, _backups(context.instance, span.begin), progress=context.log.info
        )
    yield dg.MaterializeResult(
        metadata={
            "hours": report.span.hours,
            "rows": report.rows,
            "samples": report.samples,
            "backups": report.backups,
            "backups_failed": report.backups_failed,
        },
        check_results=checks.figure_results(report),
    )


def _backups(instance: dg.DagsterInstance, since: datetime) -> "Iterator[Outcome]":
    """Backup runs that ended since then. Those that somebody cancelled are neither good nor failed."""
    from bilten_orchestration.observability.queries.figures import Outcome

    for job, store in BACKUP_JOBS.items():
        found = instance.get_run_records(
            dg.RunsFilter(
                job_name=job,
                updated_after=since,
                statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
            )
        )
        for record in found:
            if record.end_time is not None:
                yield Outcome(
                    store,
                    datetime.fromtimestamp(record.end_time, UTC),
                    record.dagster_run.status is dg.DagsterRunStatus.SUCCESS,
                )
