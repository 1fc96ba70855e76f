"""Checks above dbt's own: what readers see equals PostgreSQL, and the newest closed day is final."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics import freshness as freshness_rules
from bilten_orchestration.metrics.manifest import Mart
from bilten_orchestration.stores.resources import Platform

MART = "fct_event_sales_daily"
FRESH = "newest_closed_day_is_final"
RECONCILES = "published_days_equal_postgres"


def key(mart: str) -> dg.AssetKey:
    return dg.AssetKey(["marts", mart])


@dg.asset_check(
    asset=key(MART),
    name=RECONCILES,
    description=(
        "Every published day, cell by cell, against PostgreSQL's own totals. A difference in a day that is"
        " not dirty is a change that the sync did not see."
    ),
)
def published_days_equal_postgres(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    from bilten_orchestration.metrics.reconciliation import reconcile

    with face.step(context):
        found = reconcile(platform.settings)
    days = sorted({difference.day for difference in found.differences})
    metadata = {
        "days_compared": found.days,
        "days_waiting": found.behind,
        "differing_cells": len(found.differences),
        "differing_days": len(days),
        "days_without_evidence": len(found.unproven),
    }
    if found.equal:
        return dg.AssetCheckResult(passed=True, metadata=metadata)
    first = found.differences[0] if found.differences else None
    return dg.AssetCheckResult(
        passed=False,
        description=(
            f"{first.metric} of event {first.event_id} on {first.day}: expected {first.expected:f}"
            f" {first.currency}, found {first.found:f}."
            f" Next: bilten explain {first.day} {first.event_id} {first.metric}; then bilten sync"
            f" --full and bilten metrics build --from {days[0]} --to {days[-1]}"
            if first
            else f"{len(found.unproven)} published days have no control totals, from {found.unproven[0]} on."
            " Next: bilten sync --full"
        ),
        metadata={
            **metadata,
            "days": ", ".join(map(str, days[: face.SHOWN_PROBLEMS])),
            "sample": face.records([asdict(difference) for difference in found.differences], limit=10),
        },
    )


@dg.asset_check(
    asset=dg.AssetKey(["analytics", "mart_days"]),
    description="No day of the last 60 stands as refused: its mart shows what was there before.",
)
def no_day_is_refused(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    with face.step(context), platform.clickhouse() as client:
        rows = client.query(
            "select mart, toString(day) from analytics.mart_days final"
            " where verdict = 'refused' and day >= today() - 60 order by day, mart"
        ).result_rows
    return dg.AssetCheckResult(
        passed=not rows,
        description=f"{rows[0][0]} of {rows[0][1]}, and {len(rows) - 1} more."
        f" Next: bilten metrics build --from {rows[0][1]} --to {rows[-1][1]} names the gates"
        if rows
        else None,
        metadata={"refused_days": len(rows)},
    )


def freshness_checks(marts: Sequence[Mart]) -> dg.AssetChecksDefinition:
    """One check per partitioned mart: a freshness policy would take any partition for fresh."""

    @dg.multi_asset_check(
        name="freshness",
        specs=[
            dg.AssetCheckSpec(
                FRESH,
                asset=key(mart.name),
                description=(
                    "The newest day that is over in every zone is published and final, at the latest two"
                    " hours after it closed. A refused day does not count."
                ),
            )
            for mart in marts
        ],
        can_subset=True,
    )
    def freshness(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        from bilten_orchestration.ingestion import source

        now = datetime.now(UTC)
        names = sorted(found.asset_key.path[-1] for found in context.selected_asset_check_keys)
        with face.step(context), platform.clickhouse() as client:
            judged = freshness_rules.judge(client, names, now)
            held = None
            if any(not found.fresh and found.held_open for found in judged):
                with platform.postgres("freshness of the marts") as connection:
                    held = source.holders(connection)
        for found in judged:
            yield dg.AssetCheckResult(
                passed=found.fresh,
                asset_key=key(found.mart),
                check_name=FRESH,
                description=None
                if found.fresh
                else f"{found.due} of {found.mart} is due and is {found.shown}."
                + (f" Transactions that are open now: {held}." if held and found.held_open else "")
                + f" Next: {found.by_hand}",
                metadata={
                    "due_day": str(found.due),
                    "state": found.shown,
                    "settled_until": dg.MetadataValue.timestamp(found.batch.settled_until),
                    "hours_since_closed": round(
                        (now - day_rules.over_at(found.due)).total_seconds() / 3600, 1
                    ),
                    **({"as_of": dg.MetadataValue.timestamp(found.state.as_of)} if found.state else {}),
                },
            )

    return freshness
