"""Assets of the sync: operational tables (external), their raw copies, control totals.

One batch is one snapshot of all tables. Materializing some of the raw copies runs a whole batch all the
same, and records the chosen ones.
"""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any

import dagster as dg
from pydantic import Field

from bilten_orchestration import face
from bilten_orchestration.ingestion.lag import FAIL_SECONDS, WARN_SECONDS
from bilten_orchestration.ingestion.tables import TABLES, SyncedTable
from bilten_orchestration.stores.resources import Platform

GROUP = "ingestion"
CONTROLS = dg.AssetKey(["analytics", "control_totals"])
CONTROL_DAYS = dg.AssetKey(["analytics", "control_days"])
CLICKSTREAM = dg.AssetKey(["analytics", "events"])
# Every 15 minutes; the same limits as those of the lag.
FRESHNESS = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(seconds=FAIL_SECONDS), warn_window=timedelta(seconds=WARN_SECONDS)
)


def operational_key(table: str) -> dg.AssetKey:
    """Key of a PostgreSQL table given as schema.table."""
    schema, _, name = table.partition(".")
    return dg.AssetKey(["operational", schema, name])


def raw_key(table: SyncedTable) -> dg.AssetKey:
    return dg.AssetKey(["raw", table.target])


OPERATIONAL = [
    dg.AssetSpec(
        operational_key(table.source),
        group_name=GROUP,
        description=f"The table {table.source} in PostgreSQL, written by the application.",
        owners=[face.DATA_PLATFORM],
        kinds={"postgres", "table"},
        tags={"layer": "operational"},
        metadata=face.BY_APPLICATION,
    )
    for table in TABLES
]

CLICKS = dg.AssetSpec(
    CLICKSTREAM,
    group_name=GROUP,
    description=(
        "Clickstream: one row per click, written by the application through the one validating writer; a"
        " repeated delivery repeats click_id. Up to 72 hours late."
    ),
    owners=[face.DATA_PLATFORM],
    kinds={"clickhouse", "table"},
    tags={"layer": "raw"},
    metadata=face.BY_APPLICATION,
)

RAW = [
    dg.AssetSpec(
        raw_key(table),
        deps=[operational_key(table.source)],
        group_name=GROUP,
        description=(
            f"Copy of {table.source} in ClickHouse ({table.raw}), without personal columns. Version is the"
            " number of the batch; current rows are read through the staging view."
        ),
        owners=[face.DATA_PLATFORM],
        kinds={"clickhouse", "table"},
        tags={"layer": "raw"},
        metadata={"dagster/table_name": table.raw},
        skippable=True,
        freshness_policy=FRESHNESS,
    )
    for table in TABLES
]

EVIDENCE = [
    dg.AssetSpec(
        key,
        deps=[operational_key(table.source) for table in TABLES if table.facts],
        group_name=GROUP,
        description=description,
        owners=[face.DATA_PLATFORM],
        kinds={"clickhouse", "table"},
        tags={"layer": "raw"},
        metadata={"dagster/table_name": ".".join(key.path)},
        skippable=True,
        freshness_policy=FRESHNESS,
    )
    for key, description in (
        (
            CONTROLS,
            "What PostgreSQL itself computes per local day, event, currency and metric, in the snapshot of"
            " each batch: the evidence that the gates of the marts compare with.",
        ),
        (
            CONTROL_DAYS,
            "Which days have control totals, of which batch, with how many cells: a day without a row has no"
            " evidence and is not published.",
        ),
    )
]
SYNCED = [*RAW, *EVIDENCE]


def control_days(back: int, first_day: str, today: date) -> list[date]:
    """The `back` days before today, none of them before the first day of the metrics."""
    count = min(back, (today - date.fromisoformat(first_day)).days)
    return [today - timedelta(days=number) for number in range(1, count + 1)]


def data_version(epoch: Mapping[str, Any]) -> dg.DataVersion:
    """Of the raw copies: the history of PostgreSQL that they follow.

    Which days of the marts a batch changed is known exactly and kept in system.metric_dirty_days. With a
    version per batch Dagster would call all days of all marts unsynced every quarter of an hour; after a
    restore (a new epoch) it does, and rightly.
    """
    return dg.DataVersion(blake2b(json.dumps(epoch, sort_keys=True).encode(), digest_size=8).hexdigest())


class SyncConfig(dg.Config):
    """What a batch does beyond the changes since the last one."""

    control_days_back: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="Compute control totals afresh for this many days before today.",
    )


@dg.multi_asset(
    name="raw",
    specs=SYNCED,
    can_subset=True,
    description="One sync batch from PostgreSQL to ClickHouse.",
    op_tags={face.COMMAND: "bilten sync"},
)
def raw(
    context: dg.AssetExecutionContext, config: SyncConfig, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None]]:
    from bilten_orchestration.ingestion.sync import sync

    face.keep_connection(context)
    with face.step(context):
        settings = platform.settings
        asked = control_days(config.control_days_back, settings.metrics.first_day, datetime.now(UTC).date())
        report = sync(settings, control_days=asked, progress=context.log.info)
    version = data_version(report.epoch)
    for table in TABLES:
        if raw_key(table) in context.selected_asset_keys:
            yield dg.MaterializeResult(
                raw_key(table),
                metadata={
                    "rows_written": report.rows.get(table.source, 0),
                    "rows_deleted": report.deletes.get(table.source, 0),
                    "batch": report.batch,
                    "as_of": dg.MetadataValue.timestamp(report.as_of),
                },
                data_version=version,
            )
    batch = {
        "batch": report.batch,
        "kind": report.kind,
        "as_of": dg.MetadataValue.timestamp(report.as_of),
        "touched_days": len(report.touched_days),
    }
    if CONTROLS in context.selected_asset_keys:
        yield dg.MaterializeResult(
            CONTROLS,
            metadata={
                **batch,
                "cells": report.control_cells,
                "bytes": report.bytes,
                "seconds": round(report.seconds, 2),
            },
            data_version=version,
        )
    if CONTROL_DAYS in context.selected_asset_keys:
        yield dg.MaterializeResult(
            CONTROL_DAYS, metadata={**batch, "days": report.control_days}, data_version=version
        )
