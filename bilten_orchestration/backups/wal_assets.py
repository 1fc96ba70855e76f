"""The WAL of PostgreSQL in the repository, materialized by auditing it.

It is taken by a service and not by runs (`bilten wal stream`): what runs add is the proof that nothing is
missing.
"""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.assets import GROUP, key
from bilten_orchestration.stores.resources import Platform

KEY = key("postgres", "wal")
CLEAN, RPO = "audit_is_clean", "recovery_point_is_recent"


@dg.asset(
    key=KEY,
    deps=[key("postgres", "full"), key("postgres", "incremental")],
    group_name=GROUP,
    description=(
        "PostgreSQL's WAL in both buckets, from the oldest backup that a restore to a point in time may start"
        " from until now. `bilten wal stream` takes it; a run audits it and decrypts what is new."
    ),
    owners=[face.DATA_PLATFORM],
    kinds={"postgres", "s3"},
    tags={"layer": "backup"},
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3)),
    check_specs=[
        dg.AssetCheckSpec(
            CLEAN,
            asset=KEY,
            description="No segment is missing, cut, renamed or damaged, in either bucket.",
        ),
        dg.AssetCheckSpec(
            RPO,
            asset=KEY,
            description="The first bucket reaches to within 5 minutes of now.",
        ),
    ],
    op_tags={face.COMMAND: "bilten wal audit"},
)
def postgres_wal(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    from datetime import UTC, datetime

    from bilten_orchestration.backups.repository.opened import BUCKETS
    from bilten_orchestration.backups.wal import audit, first_day

    now = datetime.now(UTC)
    with face.step(context):
        waits = {bucket: first_day.waits_for(platform.settings, bucket, now) for bucket in BUCKETS}
        reports = {
            bucket: audit.audit(platform.settings, bucket=bucket, progress=context.log.info)
            for bucket in BUCKETS
            if waits[bucket] is None
        }
    now = datetime.now(UTC)
    first, copy = reports.get("first"), reports.get("copy")
    waiting = "\n".join(reason for reason in waits.values() if reason)
    metadata: dict[str, str | int | float] = {
        "objects_read": sum(report.read for report in reports.values()),
        **({"waits_for": waiting} if waiting else {}),
        **({} if copy is None else {"gaps_of_copy": len(copy.gaps)}),
    }
    rpo = None
    if first is not None:
        metadata |= {"segments": first.segments, "gaps": len(first.gaps), "timeline": first.timeline}
        if first.to is not None:
            rpo = max(0.0, (now - first.to).total_seconds())
            metadata["rpo_seconds"] = round(rpo, 1)
            if first.begin is not None:
                metadata["reach_hours"] = round((first.to - first.begin).total_seconds() / 3600, 2)
    yield dg.MaterializeResult(metadata=metadata)
    problems = [problem for report in reports.values() for problem in report.problems]
    told = [str(problem) for problem in problems[: face.TOLD_PROBLEMS]]
    yield dg.AssetCheckResult(
        check_name=CLEAN,
        passed=not problems and not waiting,
        # what is only not there yet is no error; what is damaged is one beside it
        severity=dg.AssetCheckSeverity.ERROR if problems else dg.AssetCheckSeverity.WARN,
        description="\n".join([*told, *([waiting] if waiting else [])]) or None,
        metadata={"problems": face.table(problems)} if problems else {},
    )
    limit = audit.RPO.total_seconds()
    good = rpo is not None and rpo <= limit
    yield dg.AssetCheckResult(
        check_name=RPO,
        passed=good,
        severity=dg.AssetCheckSeverity.WARN if waits["first"] else dg.AssetCheckSeverity.ERROR,
        description=None if good else waits["first"] or "next: bilten wal status",
        metadata={} if rpo is None else {"rpo_seconds": round(rpo, 1)},
    )


postgres_wal_audit = face.job(
    "postgres_wal_audit",
    dg.AssetSelection.assets(KEY),
    "Audits PostgreSQL's WAL in both buckets, and decrypts what is new.",
    by_hand="bilten wal audit",
    on_failure="bilten wal status",
)
postgres_wal_audit_schedule = face.schedule(
    "postgres_wal_audit",
    postgres_wal_audit,
    "25 * * * *",
    "Every hour, between syncs: a gap is found while PostgreSQL may still have what is missing.",
)
