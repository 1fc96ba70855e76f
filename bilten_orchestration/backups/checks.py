"""Checks of the repository, asked of the bucket and not of Dagster's own records."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import UTC, datetime

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups import recency as recencies
from bilten_orchestration.backups.assets import COPY_COMMAND, PRUNE_COMMAND, copies, key, retention
from bilten_orchestration.backups.plan import PLANNED, Planned
from bilten_orchestration.stores.resources import Platform


def _listed_and_recent(planned: Planned) -> dg.AssetChecksDefinition:
    kinds = (planned.kind, *planned.as_good)

    @dg.asset_check(
        asset=key(planned.store, planned.kind),
        name="listed_and_recent",
        description=(
            f"The repository lists a backup ({' or '.join(kinds)}) of the last"
            f" {recencies.hours(planned.within)}, and nothing in it was altered."
        ),
    )
    def check(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.AssetCheckResult:
        from bilten_orchestration.backups.repository import catalogue
        from bilten_orchestration.backups.repository.opened import Opened

        with face.step(context), Opened.of(platform.settings, new=False) as opened:
            found = catalogue.read(opened.repository, opened.ring, planned.store)
        recency = recencies.judge(found, planned, datetime.now(UTC))
        said = [str(problem) for problem in found.problems[: face.TOLD_PROBLEMS]]
        if recency.said:
            said.append(recency.said)
        return dg.AssetCheckResult(
            passed=not said,
            description="\n".join(said) or None,
            metadata={
                "backups": recency.backups,
                "problems": len(found.problems),
                **(
                    {} if recency.age is None else {"age_hours": round(recency.age.total_seconds() / 3600, 2)}
                ),
            },
        )

    return check


LISTED = {(planned.store, planned.kind): _listed_and_recent(planned) for planned in PLANNED}


@dg.asset_check(
    asset=copies,
    description=(
        "Nothing has waited to be copied for longer than BILTEN_BACKUPS__COPY_LAG_SECONDS, no object differs,"
        " and the newest run named no problem."
    ),
)
def copy_complete(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    """Both buckets are listed anew: what a run said of itself counts for its problems alone."""
    from bilten_orchestration.backups.copies.copy import examine

    with face.step(context):
        found = examine(platform.settings)
    lag, limit = found.lag(datetime.now(UTC)), platform.settings.backups.copy_lag_seconds
    said = [str(problem) for problem in found.problems[: face.TOLD_PROBLEMS]]
    if lag.seconds > limit:
        said.append(
            f"{lag.objects} objects are not copied, the oldest for {lag.seconds / 3600:.1f} hours, expected"
            f" within {limit / 3600:.1f}; next: {COPY_COMMAND}"
        )
    event = context.instance.get_latest_materialization_event(copies.key)
    materialization = None if event is None else event.asset_materialization
    told = 0 if materialization is None else materialization.metadata["problems"].value
    if told:
        said.append(f"{told} problems in the newest run; next: {COPY_COMMAND}")
    return dg.AssetCheckResult(
        passed=not said,
        description="\n".join(said) or None,
        metadata={
            "lag_objects": lag.objects,
            "lag_bytes": lag.bytes,
            "lag_seconds": round(lag.seconds, 1),
            "problems": len(found.problems),
        },
    )


@dg.asset_check(
    asset=retention,
    description="Both buckets hold nothing that retention no longer keeps, and every backup could be judged.",
)
def nothing_expired_is_left(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.AssetCheckResult:
    from bilten_orchestration.backups.retention.prune import prune

    with face.step(context):
        found = prune(platform.settings, execute=False, by="a check")
    said = [str(problem) for problem in found.problems[: face.TOLD_PROBLEMS]]
    if found.backups_going:
        said.append(f"{found.backups_going} expired backups are left; next: {PRUNE_COMMAND}")
    return dg.AssetCheckResult(
        passed=not said,
        severity=dg.AssetCheckSeverity.WARN,  # too much is kept, and nothing too little
        description="\n".join(said) or None,
        metadata={
            "expired_backups": found.backups_going,
            "removable_wal_objects": found.wal_objects_going,
            "problems": len(found.problems),
        },
    )
