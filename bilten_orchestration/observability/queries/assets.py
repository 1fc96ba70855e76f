"""The weekly advice as an asset: its report is Markdown in the metadata of each materialization."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.observability.queries import checks
from bilten_orchestration.stores.resources import Platform

GROUP = "observability"
# A run every week; one that is missed is noticed the day after.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))


@dg.asset(
    key=["observability", "advice"],
    group_name=GROUP,
    owners=[face.DATA_PLATFORM],
    kinds={"postgres", "clickhouse"},
    tags={"layer": "operational"},
    freshness_policy=FRESHNESS,
    retry_policy=face.RETRY,
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

    with face.failures():
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
