"""Checks of the repository, asked of the bucket and not of Dagster's own records."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import UTC, datetime

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.assets import LATEST, POSTGRES_FULL
from bilten_orchestration.stores.resources import Platform


@dg.asset_check(
    asset=POSTGRES_FULL,
    name="listed_and_recent",
    description="The repository lists a full backup of the last 26 hours, and nothing in it was altered.",
)
def listed_and_recent(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
    from bilten_orchestration.backups import catalogue
    from bilten_orchestration.backups.opened import Opened

    with face.failures(), Opened.of(platform.settings, new=False) as opened:
        found = catalogue.read(opened.main, opened.ring, "postgres")
    full = [backup.manifest for backup in found.backups if backup.manifest.kind == "full"]
    newest = max((manifest.started_at for manifest in full), default=None)
    age = None if newest is None else datetime.now(UTC) - newest
    said = [str(problem) for problem in found.problems[: face.TOLD_PROBLEMS]]
    if age is None:
        said.append("there is no full backup; next: bilten backup create postgres")
    elif age > LATEST:
        said.append(f"the newest full backup began {age} ago, expected within {LATEST}")
    return dg.AssetCheckResult(
        passed=not said,
        description="\n".join(said) or None,
        metadata={
            "backups": len(full),
            "problems": len(found.problems),
            **({} if age is None else {"age_hours": round(age.total_seconds() / 3600, 2)}),
        },
    )
