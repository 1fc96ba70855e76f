"""Assets of the repository: one per store and kind, materialized by taking a backup."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import timedelta

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.stores.resources import Platform

GROUP = "backups"
POSTGRES_POOL = "postgres_backup"
POSTGRES_FULL = dg.AssetKey(["backups", "postgres", "full"])
# a daily backup, and two hours for it
LATEST = timedelta(hours=26)


@dg.asset(
    key=POSTGRES_FULL,
    group_name=GROUP,
    description=(
        "The newest full backup of PostgreSQL in the repository: pg_basebackup's stream in encrypted slices,"
        " with a signed manifest that is written last."
    ),
    owners=[face.DATA_PLATFORM],
    kinds={"postgres", "s3"},
    tags={"layer": "backup"},
    pool=POSTGRES_POOL,
    retry_policy=face.RETRY,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=LATEST),
    op_tags={face.COMMAND: "bilten backup create postgres"},
)
def postgres_full(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from bilten_orchestration.backups.postgres.base import full

    with face.failures():
        report = full(platform.settings, run=context.run_id, progress=context.log.info)
    manifest = report.manifest
    metadata: dict[str, str | int | float] = {
        "backup": manifest.id,
        "raw_bytes": manifest.raw_bytes,
        "stored_bytes": manifest.stored_bytes,
        "ratio": round(report.ratio, 3),
        "seconds": round(report.seconds, 2),
        "megabytes_per_second": round(report.bytes_per_second / 1e6, 1),
        "objects": len(manifest.objects),
        "key": manifest.key_id,
    }
    if manifest.wal is not None:
        wal = manifest.wal
        metadata["wal"] = f"{wal.begin_lsn} to {wal.end_lsn}, timeline {wal.timeline}"
    return dg.MaterializeResult(metadata=metadata)
