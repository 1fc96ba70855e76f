"""Checks of the drills, asked of their attestations and not of Dagster's own records."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.drills import plan
from bilten_orchestration.drills.assets import key
from bilten_orchestration.drills.promises import AGREED, CALM, RECENT, RPO, RTO, WAYS, names_of
from bilten_orchestration.stores.resources import Platform

# more than the drills of eight days, with repetitions
_REMEMBERED = 64


def build_checks(store: plan.Drilled) -> dg.AssetChecksDefinition:
    lost = (
        "BILTEN_DRILLS__RPO_SECONDS"
        if plan.comes_from(store) == "postgres"
        else "the time within which its schedule backs up"
    )
    descriptions = {
        RPO: f"What would have been lost before the newest drill: at most {lost}.",
        RTO: "From the order to the first accepted query: at most BILTEN_DRILLS__RTO_SECONDS.",
        RECENT: "A drill of the daily way has passed within BILTEN_DRILLS__WITHIN_HOURS.",
        WAYS: f"Every way back was walked to its end in the last {plan.EVERY_WAY_WITHIN.days} days, and no"
        " document of the series is damaged, missing or forged.",
        AGREED: (
            "The documents built from a restored PostgreSQL were those of the live index,"
            if store == "search"
            else "Marts built from a restored PostgreSQL were those of the restored and the live ClickHouse,"
        )
        + f" in the last {plan.EVERY_WAY_WITHIN.days} days.",
        CALM: "The newest drill of each way warns of nothing: no table that shrank, nothing that could not be"
        " compared.",
    }

    @dg.multi_asset_check(
        name=f"drills_{store}_promises",
        specs=[
            dg.AssetCheckSpec(name, asset=key(store), description=descriptions[name])
            for name in names_of(store)
        ],
    )
    def promises(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        from bilten_orchestration.drills.listing import listed
        from bilten_orchestration.drills.promises import judge

        with face.step(context):
            found = listed(platform.settings, store, newest=_REMEMBERED)
        reports = [each.report for each in found.drills]
        for promise in judge(store, reports, platform.settings.drills, datetime.now(UTC)):
            said = [] if promise.kept else [promise.said]
            broken = promise.name == WAYS and bool(found.problems)
            if broken:
                said += [str(problem) for problem in found.problems[: face.TOLD_PROBLEMS]]
            yield dg.AssetCheckResult(
                check_name=promise.name,
                asset_key=key(store),
                passed=promise.kept and not broken,
                severity=dg.AssetCheckSeverity.WARN
                if promise.waits and not broken
                else dg.AssetCheckSeverity.ERROR,
                description="\n".join(said) or None,
                metadata={
                    f"limit_{promise.unit}": promise.limit,
                    **({} if promise.value is None else {promise.unit: round(promise.value, 3)}),
                },
            )

    return promises
