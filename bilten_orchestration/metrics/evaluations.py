"""Results of what judges days, as asset checks: one evaluation per check and day.

A gate's verdict is about one day of one mart, so its check is partitioned as the mart is. The evidence is
read back from ClickHouse: analytics.mart_days says which build published or refused a day last, and
analytics.mart_verdicts what the gates found in that build. So a check that is executed alone, without a
build, tells the same as the run did.

dagster itself makes evaluations of a single partition only (AssetCheckResult takes that of the run); a run
over a range yields finished evaluations, each with its day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.metrics import verdicts
from bilten_orchestration.metrics.manifest import Mart
from bilten_orchestration.metrics.verdicts import MartDay, Verdict

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

SHOWN_ROWS = 5
PUBLISHED = ("swapped", "unchanged")


def by_day(context: dg.AssetExecutionContext) -> list[dg.AssetCheckKey]:
    """The selected checks that judge days, in order."""
    return sorted(
        key
        for key in context.selected_asset_check_keys
        if context.assets_def.get_spec_for_check_key(key).partitions_def is not None
    )


def evaluations(
    context: dg.AssetExecutionContext,
    client: Client,
    marts: Collection[Mart],
    days: Sequence[date],
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
    """What is known of these days, for every selected check that judges days.

    To be consumed after the materializations of the run: each evaluation names the one it is about, and
    Dagster takes a check of an older one for stale.
    """
    keys = by_day(context)
    gates = {mart.name: mart.gates for mart in marts}
    names = sorted({key.asset_key.path[-1] for key in keys})
    states = {(state.mart, state.day): state for state in verdicts.mart_days(client, names, days=days)}
    given = {
        (found.mart, found.day, found.gate): found
        for run_id in sorted({state.run_id for state in states.values()})
        for found in verdicts.judged(client, run_id, failed_only=False)
        if (state := states.get((found.mart, found.day))) is not None and state.run_id == run_id
    }
    targets = {key: _targets(context, key, days) for key in sorted({key.asset_key for key in keys})}
    for check in keys:
        mart = check.asset_key.path[-1]
        for day in days:
            state = states.get((mart, day))
            if check.name in gates.get(mart, ()):
                passed, why, metadata = _judged(state, given.get((mart, day, check.name)))
            else:
                passed, why, metadata = _published(state)
            yield dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=check.name,
                passed=passed,
                severity=dg.AssetCheckSeverity.ERROR,
                description=why,
                metadata=metadata,
                target_materialization_data=targets[check.asset_key].get(str(day)),
                blocking=False,
                partition=str(day),
            )
        spec = context.assets_def.get_spec_for_check_key(check)
        yield dg.Output(None, output_name=spec.get_python_identifier())  # the step's own books


def _judged(state: MartDay | None, verdict: Verdict | None) -> tuple[bool, str | None, dict[str, Any]]:
    """Whether a gate passed, why not, and what it found."""
    if verdict is None:
        if state is not None and state.verdict in PUBLISHED:
            # a build that was interrupted and resumed judges no day twice; only what passed was published
            return True, "Published by a build that was interrupted after it.", {"failing_rows": 0}
        return False, _next(state, "The gate has given no verdict."), {}
    if not verdict.failures:
        return True, None, {"failing_rows": 0}
    return (
        False,
        str(verdicts.failed(verdict)),
        {
            "failing_rows": verdict.failures,
            "sample": face.records(verdict.sample, limit=SHOWN_ROWS),
        },
    )


def _published(state: MartDay | None) -> tuple[bool, str | None, dict[str, Any]]:
    """Whether the newest build of the day was published."""
    if state is not None and state.verdict in PUBLISHED:
        return True, None, {"verdict": state.verdict}
    if state is None:
        return False, _next(None, "The day was never built."), {}
    return (
        False,
        _next(state, "The day was refused and shows the build before, if any."),
        {"verdict": "refused"},
    )


def _next(state: MartDay | None, fact: str) -> str:
    day = f" --from {state.day} --to {state.day}" if state is not None else " --from DAY --to DAY"
    return f"{fact}\n  next:     bilten metrics build{day}"


def _targets(context: dg.AssetExecutionContext, key: dg.AssetKey, days: Sequence[date]) -> Mapping[str, Any]:
    """The newest materialization of each day that has one."""
    # the type of a public field, of which dagster exports no name
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData,
    )

    newest = context.instance.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, {str(day) for day in days}
    )
    if not newest:
        return {}
    found = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, storage_ids=list(newest.values())), limit=len(newest)
    )
    return {
        record.partition_key: AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        for record in found.records
        if record.partition_key is not None
    }
