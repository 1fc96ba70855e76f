"""The WAL of PostgreSQL in the repository, materialized by auditing it.

It is taken by a service and not by runs (`bilten wal stream`): what runs add is the proof that nothing is
missing.
"""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator

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
    retry_policy=face.RETRY,
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
    from bilten_orchestration.backups.wal import audit

    with face.failures():
        first, copy = (
            audit.audit(platform.settings, bucket=bucket, progress=context.log.info) for bucket in BUCKETS
        )
    now = datetime.now(UTC)
    rpo = None if first.to is None else max(0.0, (now - first.to).total_seconds())
    hours = (
        None if first.begin is None or first.to is None else (first.to - first.begin).total_seconds() / 3600
    )
    yield dg.MaterializeResult(
        metadata={
            "segments": first.segments,
            "gaps": len(first.gaps),
            "gaps_of_copy": len(copy.gaps),
            "objects_read": first.read + copy.read,
            "timeline": first.timeline,
            **({} if rpo is None else {"rpo_seconds": round(rpo, 1)}),
            **({} if hours is None else {"reach_hours": round(hours, 2)}),
        }
    )
    problems = (*first.problems, *copy.problems)
    yield dg.AssetCheckResult(
        check_name=CLEAN,
        passed=not problems,
        description="\n".join(str(problem) for problem in problems[: face.TOLD_PROBLEMS]) or None,
        metadata={"problems": face.table(problems)} if problems else {},
    )
    limit = audit.RPO.total_seconds()
    yield dg.AssetCheckResult(
        check_name=RPO,
        passed=rpo is not None and rpo <= limit,
        description=None if rpo is not None and rpo <= limit else "next: bilten wal status",
        metadata={} if rpo is None else {"rpo_seconds": round(rpo, 1)},
    )


postgres_wal_audit = dg.define_asset_job(
    "postgres_wal_audit",
    selection=dg.AssetSelection.assets(KEY),
    owners=[face.DATA_PLATFORM],
    description="Audits PostgreSQL's WAL in both buckets, and decrypts what is new.",
    tags={face.COMMAND: "bilten wal audit", face.HELP: "bilten wal status"},
)
postgres_wal_audit_schedule = dg.ScheduleDefinition(
    name="postgres_wal_audit",
    job=postgres_wal_audit,
    cron_schedule="25 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="Every hour, between syncs: a gap is found while PostgreSQL may still have what is missing.",
)
