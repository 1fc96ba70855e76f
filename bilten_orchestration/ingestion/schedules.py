"""When batches run."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import SYNCED
from bilten_orchestration.ingestion.checks import (
    cells_are_whole,
    equal_to_postgres,
    nothing_from_the_future,
)

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

reconciliation = face.job(
    "raw_reconciliation",
    dg.AssetSelection.checks(equal_to_postgres, cells_are_whole, nothing_from_the_future),
    "Every row of the copies in ClickHouse against PostgreSQL, and what the gates rest on.",
    by_hand="bilten sync --reconcile",
    on_failure="bilten sync --reconcile names the rows",
)

reconciled = face.schedule(
    "raw_reconciliation_daily",
    reconciliation,
    "22 12 * * *",
    "Before the day's final build, between two batches: what makes it wrong is known by then.",
)
