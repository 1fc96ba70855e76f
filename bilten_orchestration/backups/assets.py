"""Assets of the repository: one per store and kind, materialized by taking a backup."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import timedelta

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.plan import PLANNED, Planned, stores
from bilten_orchestration.ingestion.assets import CLICKS, OPERATIONAL, SYNCED
from bilten_orchestration.metrics.assets import MART_DAYS
from bilten_orchestration.partitions.assets import OPERATIONAL as PARTITIONED
from bilten_orchestration.stores.resources import Platform

GROUP = "backups"
COPY_COMMAND = "bilten backup copy"
PRUNE_COMMAND = "bilten backup prune --execute"


def key(store: str, kind: str) -> dg.AssetKey:
    return dg.AssetKey(["backups", store, kind])


def upstream(planned: Planned) -> list[dg.AssetKey]:
    """What is in it, by few edges: an incremental builds on the newest full backup, which has those of its
    store. ClickHouse's marts stand behind the one table that says of each of their days which build published
    it; Redis holds nothing that an asset describes."""
    if planned.kind == "incremental":
        return [key(planned.store, "full")]
    match planned.store:
        case "postgres":
            return [spec.key for spec in (*OPERATIONAL, *PARTITIONED)]
        case "clickhouse":
            return [spec.key for spec in (*SYNCED, CLICKS, MART_DAYS)]
        case "redis":
            return []


def _asset(planned: Planned) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(planned.store, planned.kind),
        deps=upstream(planned),
        group_name=GROUP,
        description=planned.description,
        owners=[face.DATA_PLATFORM],
        kinds={planned.store, "s3"},
        tags={"layer": "backup"},
        # one slot: a server that sends two backups at once serves nobody else
        pool=f"{planned.store}_backup",
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=planned.within),
        op_tags={face.COMMAND: planned.command},
    )
    def backup(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        from bilten_orchestration.backups.create import create

        with face.step(context):
            report = create(
                platform.settings,
                planned.store,
                planned.kind,
                run=context.run_id,
                progress=context.log.info,
            )
        manifest = report.manifest
        metadata: dict[str, str | int | float] = {
            "backup": manifest.id,
            "kind": manifest.kind,
            "parent": manifest.parent or "none",
            "raw_bytes": manifest.raw_bytes,
            "stored_bytes": manifest.stored_bytes,
            "ratio": round(report.ratio, 3),
            "seconds": round(report.seconds, 2),
            "megabytes_per_second": round(report.bytes_per_second / 1e6, 1),
            "objects": len(manifest.objects),
            "key": manifest.key_id,
            **manifest.details,
        }
        if (rate := _success_rate(context.instance, planned)) is not None:
            metadata["success_rate_30_days"] = rate
        if manifest.counts:
            metadata["counted"] = sum(manifest.counts.values())
        if manifest.wal is not None:
            wal = manifest.wal
            metadata["wal"] = f"{wal.begin_lsn} to {wal.end_lsn}, timeline {wal.timeline}"
        return dg.MaterializeResult(metadata=metadata)

    return backup


def _success_rate(instance: dg.DagsterInstance, planned: Planned) -> float | None:
    """Of the runs of its job in the last 30 days that have ended; None before the first."""
    from datetime import UTC, datetime

    since = datetime.now(UTC) - timedelta(days=30)

    def ended(status: dg.DagsterRunStatus) -> int:
        return instance.get_runs_count(
            dg.RunsFilter(job_name=planned.job, statuses=[status], created_after=since)
        )

    good, bad = ended(dg.DagsterRunStatus.SUCCESS), ended(dg.DagsterRunStatus.FAILURE)
    return round(good / (good + bad), 4) if good + bad else None


ASSETS = {(planned.store, planned.kind): _asset(planned) for planned in PLANNED}


@dg.asset(
    key=dg.AssetKey(["backups", "copies"]),
    deps=list(ASSETS.values()),
    group_name=GROUP,
    description=(
        "The second bucket: every backup, the WAL and the application's files, each object verified by its"
        " own SHA-256. A repository of its own: a restore works from it with the first one gone."
    ),
    owners=[face.DATA_PLATFORM],
    kinds={"s3"},
    tags={"layer": "backup"},
    pool="backup_copy",
    freshness_policy=dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=3), warn_window=timedelta(hours=1)
    ),
    op_tags={face.COMMAND: COPY_COMMAND},
)
def copies(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from bilten_orchestration.backups.copies.copy import copy

    with face.step(context):
        report = copy(platform.settings, progress=context.log.info)
    metadata: dict[str, dg.MetadataValue | str | int | float] = {
        "bucket": report.bucket,
        "copied_objects": report.copied_objects,
        "copied_bytes": report.copied_bytes,
        "present_objects": report.present_objects,
        "present_bytes": report.present_bytes,
        "reread_objects": report.reread_objects,
        "reread_bytes": report.reread_bytes,
        "lag_objects": report.lag.objects,
        "lag_bytes": report.lag.bytes,
        "lag_seconds": round(report.lag.seconds, 1),
        "seconds": round(report.seconds, 2),
        "problems": len(report.problems),
    }
    if report.files is not None:
        metadata |= {"files": report.files.files, "bad_files": report.files.bad}
    if report.problems:
        # what could be copied was: the check says how far the copy is behind, these say why
        metadata["problem_table"] = face.table(report.problems)
        for problem in report.problems[: face.TOLD_PROBLEMS]:
            context.log.error(str(problem))
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(
    key=dg.AssetKey(["backups", "retention"]),
    # what passed a drill is kept: drills.assets names them, and imports this module
    deps=[
        *ASSETS.values(),
        copies,
        key("postgres", "wal"),
        *(dg.AssetKey(["drills", each]) for each in stores()),
    ],
    group_name=GROUP,
    description=(
        "Both buckets without what nobody was promised any more: expired backups, WAL before the window of"
        " PITR, what killed backups left. Never the last good one of a store; journalled in the repository."
    ),
    owners=[face.DATA_PLATFORM],
    kinds={"s3"},
    tags={"layer": "backup"},
    pool="backup_retention",
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50)),
    op_tags={face.COMMAND: PRUNE_COMMAND},
)
def retention(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from dataclasses import asdict

    from bilten_orchestration.backups.retention.prune import prune

    with face.step(context):
        report = prune(platform.settings, execute=True, by=f"run {context.run_id}", progress=context.log.info)
    if report.problems:
        # what could be judged is done; a store that could not be keeps everything, and somebody must look
        raise face.failure(report.problems)
    return dg.MaterializeResult(
        metadata={
            "expired_backups": report.backups_going,
            "removed_wal_objects": report.wal_objects_going,
            "removed_objects": report.removed_objects,
            "removed_bytes": report.removed_bytes,
            "reach_minutes_lost": report.reach_minutes_lost,
            "seconds": round(report.seconds, 2),
            "decisions": face.records([asdict(line) for line in report.lines if line.action != "keep"]),
        }
    )
