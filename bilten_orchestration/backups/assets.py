"""Assets of the repository: one per store and kind, materialized by taking a backup."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.stores.resources import Platform

GROUP = "backups"
# one slot: a server that sends two backups at once serves nobody else
POSTGRES_POOL = "postgres_backup"
# an interval of the schedule, and two hours for the backup
WITHIN = {"full": timedelta(hours=26), "incremental": timedelta(hours=6)}


def key(kind: str) -> dg.AssetKey:
    return dg.AssetKey(["backups", "postgres", kind])


def _postgres(
    kind: Literal["full", "incremental"], description: str, deps: Sequence[dg.AssetKey] = ()
) -> dg.AssetsDefinition:
    @dg.asset(
        key=key(kind),
        deps=deps,
        group_name=GROUP,
        description=description,
        owners=[face.DATA_PLATFORM],
        kinds={"postgres", "s3"},
        tags={"layer": "backup"},
        pool=POSTGRES_POOL,
        retry_policy=face.RETRY,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=WITHIN[kind]),
        op_tags={face.COMMAND: f"bilten backup create postgres --kind {kind}"},
    )
    def backup(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult[None]:
        from bilten_orchestration.backups.postgres.base import take

        with face.failures():
            report = take(platform.settings, kind, run=context.run_id, progress=context.log.info)
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
        if manifest.wal is not None:
            wal = manifest.wal
            metadata["wal"] = f"{wal.begin_lsn} to {wal.end_lsn}, timeline {wal.timeline}"
        return dg.MaterializeResult(metadata=metadata)

    return backup


postgres_full = _postgres(
    "full",
    "The newest full backup of PostgreSQL in the repository: pg_basebackup's stream in encrypted slices, with"
    " a signed manifest that is written last.",
)
postgres_incremental = _postgres(
    "incremental",
    "What changed in PostgreSQL since the newest full backup; a full one where that cannot be, and why.",
    deps=[key("full")],
)
