"""When backups are taken."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.assets import postgres_full, postgres_incremental


def _job(kind: str, asset: dg.AssetsDefinition) -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        f"postgres_{kind}_backup",
        selection=dg.AssetSelection.assets(asset),
        owners=[face.DATA_PLATFORM],
        description=f"Takes a {kind} backup of PostgreSQL, and checks that the repository lists it.",
        tags={face.COMMAND: f"bilten backup create postgres --kind {kind}", face.HELP: "bilten backup list"},
    )


def _schedule(job: dg.UnresolvedAssetJobDefinition, name: str, cron: str, why: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        owners=[face.DATA_PLATFORM],
        description=why,
    )


postgres_full_backup = _job("full", postgres_full)
postgres_incremental_backup = _job("incremental", postgres_incremental)

SCHEDULES = [
    _schedule(
        postgres_full_backup,
        "postgres_full_backup_daily",
        "0 2 * * *",
        "Every night, before the restore drill.",
    ),
    _schedule(
        postgres_incremental_backup,
        "postgres_incremental_backup_every_4_hours",
        "0 */4 * * *",
        "So that a restore replays the WAL of hours and not of a day.",
    ),
]
