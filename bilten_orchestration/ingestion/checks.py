"""Check of the sync: how far ClickHouse is behind."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import UTC, datetime

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import CONTROLS
from bilten_orchestration.stores.resources import Platform

WARN_SECONDS = 3600
FAIL_SECONDS = 6 * 3600


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
    with face.step(context), platform.postgres("sync lag") as connection:
        row = connection.execute(
            "select batch, applying_batch, as_of from system.sync_state where consumer = 'clickhouse'"
        ).fetchone()
    if row is None or row[2] is None:
        return dg.AssetCheckResult(
            passed=False, description="No sync has run yet. Next: bilten sync", metadata={"batch": 0}
        )
    batch, applying, as_of = row
    lag = (datetime.now(UTC) - as_of).total_seconds()
    metadata = {
        "lag_seconds": round(lag, 1),
        "batch": int(batch),
        "as_of": dg.MetadataValue.timestamp(as_of),
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
