"""Checks of search that no run of its own would fail: it falls behind, or serves an older definition."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.search.assets import CHANGES, DEFINITION, KEPT, POPULARITY
from bilten_orchestration.stores.resources import Platform


@dg.asset_check(
    asset=CHANGES,
    description=(
        "How old the snapshot is that the serving index shows. Changes come every 5 minutes: above 15"
        " something holds them up, and above an hour people find what is no longer sold."
    ),
)
def search_lag(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    from bilten_orchestration.search import lag
    from bilten_orchestration.search.assets import refuse_if_off

    with face.step(context):
        refuse_if_off(platform.settings)
        with platform.postgres("search lag") as connection:
            found = lag.read(connection)
    if found.index is None or found.seconds is None:
        return dg.AssetCheckResult(
            passed=False,
            description="No index serves yet. Next: bilten search reindex",
            metadata={"batch": 0},
        )
    late = found.seconds > lag.WARN_SECONDS
    said = f"{found.index} is {found.seconds / 60:.0f} min behind PostgreSQL. Next: bilten search status"
    return dg.AssetCheckResult(
        passed=not late,
        severity=dg.AssetCheckSeverity.ERROR
        if found.seconds > lag.FAIL_SECONDS
        else dg.AssetCheckSeverity.WARN,
        description=said if late else None,
        metadata={
            "lag_seconds": round(found.seconds, 1),
            "batch": found.followed.batch,
            "dead_letters": found.dead_letters,
            "index": found.index,
        },
    )


@dg.asset_check(
    asset=DEFINITION,
    description="The index that serves is as the code defines it; else what differs, and what it takes.",
)
def serves_the_definition(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    from bilten_orchestration.search import mapping
    from bilten_orchestration.search.assets import refuse_if_off
    from bilten_orchestration.search.definition import Step

    with face.step(context):
        refuse_if_off(platform.settings)
        found = mapping.examine(platform.settings)
    return dg.AssetCheckResult(
        passed=found.step is Step.NOTHING,
        severity=dg.AssetCheckSeverity.WARN,  # what serves is whole, and the sensor is on its way
        description="\n".join(found.changes[:10]) or None,
        metadata={"step": found.step.value, "changes": len(found.changes), "index": found.index or "none"},
    )


@dg.asset_check(
    asset=POPULARITY,
    description="What PostgreSQL keeps of sales for search is what the published days add up to now.",
)
def equals_the_mart(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    from bilten_orchestration.search import popularity
    from bilten_orchestration.search.assets import refuse_if_off

    with face.step(context):
        refuse_if_off(platform.settings)
        found = popularity.compare(platform.settings)
    return dg.AssetCheckResult(
        passed=found.equal,
        severity=dg.AssetCheckSeverity.WARN,  # search sorts by it, and nobody pays by it
        description=None
        if found.equal
        else f"expected {found.tickets_clickhouse:,} tickets of {found.events_clickhouse:,} events, found"
        f" {found.tickets_postgres:,} of {found.events_postgres:,}. Next: run search_popularity again; if it"
        " stays, somebody else writes system.event_popularity",
        metadata={
            "events": found.events_postgres,
            "tickets_sold": found.tickets_postgres,
            "tickets_sold_difference": found.tickets_postgres - found.tickets_clickhouse,
        },
    )


@dg.asset_check(asset=KEPT, description="No index is left whose days are over.")
def nothing_left(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    from bilten_orchestration.search.assets import refuse_if_off
    from bilten_orchestration.search.prune import prune

    with face.step(context):
        refuse_if_off(platform.settings)
        found = prune(platform.settings).actions
    left = [each for each in found if each.action == "remove"]
    return dg.AssetCheckResult(
        passed=not left,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{', '.join(each.index for each in left[:5])}. Next: bilten search prune --execute"
        if left
        else None,
        metadata={"left": len(left), "left_bytes": sum(each.bytes or 0 for each in left)},
    )
