"""Check of the sync: how far ClickHouse is behind."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import CONTROLS
from bilten_orchestration.ingestion.lag import FAIL_SECONDS, WARN_SECONDS
from bilten_orchestration.stores.resources import Platform


@dg.asset_check(
    asset=CONTROLS,
    name="sync_lag",
    description=(
        "How old the last whole batch is. Batches come every 15 minutes: above one hour something holds them"
        " up, and above six the metrics of the day are at stake."
    ),
)
def sync_lag(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    from bilten_orchestration.ingestion import lag as lags

    with face.step(context), platform.postgres("sync lag") as connection:
        found = lags.read(connection, "clickhouse")
    if found.seconds is None or found.as_of is None:
        return dg.AssetCheckResult(
            passed=False, description="No sync has run yet. Next: bilten sync", metadata={"batch": 0}
        )
    lag, applying = found.seconds, found.applying
    metadata: dict[str, dg.MetadataValue] = {
        "lag_seconds": dg.MetadataValue.float(round(lag, 1)),
        "batch": dg.MetadataValue.int(found.batch),
        "as_of": dg.MetadataValue.timestamp(found.as_of),
    }
    if lag > WARN_SECONDS:
        return dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR if lag > FAIL_SECONDS else dg.AssetCheckSeverity.WARN,
            description=f"ClickHouse is {lag / 3600:.1f} h behind PostgreSQL"
            + (f"; batch {applying} was interrupted" if applying else "")
            + ". Next: bilten sync, and read what it says",
            metadata=metadata,
        )
    return dg.AssetCheckResult(passed=True, metadata=metadata)
