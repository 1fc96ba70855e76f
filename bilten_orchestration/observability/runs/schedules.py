"""When Dagster's history is kept to its days."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.observability.runs.assets import COMMAND, run_history

run_retention = face.job(
    "run_retention",
    dg.AssetSelection.assets(run_history),
    "Removes runs, events and logs whose days are over; `bilten runs prune` previews it.",
    by_hand=COMMAND,
    on_failure="bilten runs prune",
)

daily = face.schedule(
    "run_retention_daily",
    run_retention,
    "20 6 * * *",
    "After the night's backups and their retention, which say which runs are still named.",
)
