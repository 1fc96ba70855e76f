"""When months are made."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.partitions.assets import partitions

partition_maintenance = face.job(
    "partition_maintenance",
    dg.AssetSelection.assets(partitions),
    "Makes partitions ahead, archives and drops old ones, and judges how every table stands.",
    by_hand="bilten partitions apply",
    on_failure="bilten partitions plan",
)

daily = face.schedule(
    "partition_maintenance_daily",
    partition_maintenance,
    "0 1 * * *",
    "Every day, so that a failure has months to be noticed in.",
)
