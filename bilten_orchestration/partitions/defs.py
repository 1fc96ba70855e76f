"""Definitions of the partitions domain."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.partitions import assets, checks, schedules


def definitions() -> dg.Definitions:
    return dg.Definitions(
        assets=[*assets.OPERATIONAL, assets.partitions],
        asset_checks=[checks.partitions_judged],
        jobs=[schedules.partition_maintenance],
        schedules=[schedules.daily],
    )
