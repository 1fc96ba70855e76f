"""When batches run."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import SYNCED

ingestion = face.job(
    "ingestion",
    dg.AssetSelection.assets(*(spec.key for spec in SYNCED)) - dg.AssetSelection.all_asset_checks(),
    "One sync batch from PostgreSQL to ClickHouse.",
    by_hand="bilten sync",
    on_failure="bilten status; bilten sync says what holds it up",
)

every_15_minutes = face.schedule(
    "ingestion_every_15_minutes",
    ingestion,
    "*/15 * * * *",
    "Brings what has changed in PostgreSQL since the last batch.",
)
