"""Checks of search that no run of its own would fail: it falls behind, or serves an older definition."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import UTC, datetime

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.search.assets import CHANGES, DEFINITION
from bilten_orchestration.stores.resources import Platform

WARN_SECONDS = 15 * 60
FAIL_SECONDS = 3600

_FOLLOWED = """
    select s.index_name, y.as_of, y.batch,
           (select count(*) from system.search_dead_letters d
            where d.index_name = s.index_name and d.resolved_at is null)
    from system.search_state s left join system.sync_state y on y.consumer = 'search:' || s.index_name
    where s.alias = %s and s.index_name is not null
"""


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
    from bilten_orchestration.search.definition import ALIAS

    with face.step(context), platform.postgres("search lag") as connection:
        row = connection.execute(_FOLLOWED, (ALIAS,)).fetchone()
    if row is None or row[1] is None:
        return dg.AssetCheckResult(
            passed=False,
            description="No index serves yet. Next: bilten search rebuild",
            metadata={"batch": 0},
        )
    index, as_of, batch, dead = row
    lag = (datetime.now(UTC) - as_of).total_seconds()
    return dg.AssetCheckResult(
        passed=lag <= WARN_SECONDS,
        severity=dg.AssetCheckSeverity.ERROR if lag > FAIL_SECONDS else dg.AssetCheckSeverity.WARN,
        description=f"{index} is {lag / 60:.0f} min behind PostgreSQL. Next: bilten search status"
        if lag > WARN_SECONDS
        else None,
        metadata={
            "lag_seconds": round(lag, 1),
            "batch": int(batch),
            "dead_letters": int(dead),
            "index": str(index),
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
