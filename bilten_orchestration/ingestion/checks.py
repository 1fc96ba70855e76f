"""Checks of the sync: how far ClickHouse is behind, and whether it holds what PostgreSQL holds."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import CLICKSTREAM, CONTROL_DAYS, CONTROLS, raw_key
from bilten_orchestration.ingestion.lag import (
    CLICKS_FAIL_SECONDS,
    CLICKS_WARN_SECONDS,
    FAIL_SECONDS,
    WARN_SECONDS,
)
from bilten_orchestration.ingestion.tables import TABLES
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


@dg.multi_asset_check(
    name="raw_equals_postgres",
    specs=[
        dg.AssetCheckSpec(
            "equal_to_postgres",
            asset=raw_key(table),
            description=f"Every row of {table.source} is in ClickHouse with the same content, and no other:"
            " by hashes per bucket of keys, and exact sums of amounts, in the snapshot of a batch that this"
            " check applies.",
        )
        for table in TABLES
    ],
    can_subset=True,
)
def equal_to_postgres(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    from bilten_orchestration.ingestion.sync import reconcile

    with face.step(context):
        report = reconcile(platform.settings, progress=context.log.info)
    found = {each.table: each for each in report.tables}
    selected = {check.asset_key for check in context.selected_asset_check_keys}
    for table in TABLES:
        if raw_key(table) not in selected:
            continue
        each = found.get(table.source)  # one that was not compared is not equal
        yield dg.AssetCheckResult(
            passed=each is not None and each.equal,
            asset_key=raw_key(table),
            check_name="equal_to_postgres",
            description=None
            if each is not None and each.equal
            else "it was not compared; next: bilten sync --reconcile"
            if each is None
            else f"{each.missing} rows are missing, {each.extra} too many, {each.changed} differ."
            " Next: bilten sync --full, and find out who writes there",
            metadata={"batch": report.batch}
            if each is None
            else {
                "batch": report.batch,
                "rows_postgres": each.rows_postgres,
                "rows_clickhouse": each.rows_clickhouse,
                "missing": each.missing,
                "extra": each.extra,
                "changed": each.changed,
            },
        )


@dg.asset_check(
    asset=CONTROL_DAYS,
    description="Each day has as many control totals as the batch that wrote them counted: fewer would let a"
    " gate pass by what is not there.",
)
def cells_are_whole(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    with face.step(context), platform.clickhouse() as client:
        days, wrong, first = client.query(
            """
            select count(), countIf(told.cells <> there.cells),
                   toString(minIf(day, told.cells <> there.cells))
            from (
                select metric_date as day, argMax(cells, batch) as cells, max(batch) as newest
                from analytics.control_days group by day
            ) as told
            left join (
                select metric_date as day, batch, count() as cells
                from analytics.control_totals final group by day, batch
            ) as there on there.day = told.day and there.batch = told.newest
            """
        ).result_rows[0]
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{wrong} days, from {first} on. Next: bilten sync --full" if wrong else None,
        metadata={"days": days, "wrong_days": wrong},
    )


@dg.asset_check(
    asset=CLICKSTREAM,
    description="No click is from more than an hour ahead of the server's clock: the writer refuses such, so"
    " one that is there came another way, and its day would be closed without it.",
)
def nothing_from_the_future(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    with face.step(context), platform.clickhouse() as client:
        clicks, newest = client.query(
            "select count(), toString(max(timestamp)) from analytics.events"
            " where timestamp > now() + interval 1 hour"
        ).result_rows[0]
    return dg.AssetCheckResult(
        passed=not clicks,
        description=f"{clicks} clicks, the newest of {newest} UTC" if clicks else None,
        metadata={"clicks": clicks},
    )


@dg.asset_check(
    asset=CLICKSTREAM,
    description="How long ago the newest click arrived. No gate hears of a silent clickstream: its days equal"
    " the clicks that are there. From 6 hours on it warns, after 24 it fails; on a local stack, which may"
    " have no visitors, it warns.",
)
def clicks_arrive(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    with face.step(context), platform.clickhouse() as client:
        # a click arrives at most 72 h after it happened, and the days of the primary key are read alone
        clicks, newest, seconds = client.query(
            "select count(), toString(max(ingested_at)), dateDiff('second', max(ingested_at), now64(3))"
            " from analytics.events where created_date >= today() - 4"
        ).result_rows[0]
    passed = bool(clicks) and seconds <= CLICKS_WARN_SECONDS
    failed = (not clicks or seconds > CLICKS_FAIL_SECONDS) and platform.settings.environment != "local"
    fact = (
        f"The newest click arrived at {newest} UTC" if clicks else "There is no click of the last four days"
    )
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        description=None
        if passed
        else f"{fact}. Next: see whether the application still writes them (demo data: bilten demo traffic)",
        metadata={"clicks_of_four_days": clicks} | ({"silent_seconds": seconds} if clicks else {}),
    )
