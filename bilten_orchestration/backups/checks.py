"""Checks of the repository, asked of the bucket and not of Dagster's own records."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups.assets import WITHIN, key
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:
    from bilten_orchestration.backups.manifest import Manifest


def _listed_and_recent(kind: str, kinds: Sequence[str]) -> dg.AssetChecksDefinition:
    within = WITHIN[kind]

    @dg.asset_check(
        asset=key(kind),
        name="listed_and_recent",
        description=(
            f"The repository lists a backup ({' or '.join(kinds)}) of the last {_hours(within)}, and nothing"
            " in it was altered."
        ),
    )
    def check(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        from bilten_orchestration.backups import catalogue
        from bilten_orchestration.backups.opened import Opened

        with face.failures(), Opened.of(platform.settings, new=False) as opened:
            found = catalogue.read(opened.repository, opened.ring, "postgres")
        manifests: list[Manifest] = [
            backup.manifest for backup in found.backups if backup.manifest.kind in kinds
        ]
        newest = max((manifest.started_at for manifest in manifests), default=None)
        age = None if newest is None else datetime.now(UTC) - newest
        said = [str(problem) for problem in found.problems[: face.TOLD_PROBLEMS]]
        if age is None:
            said.append(f"there is no such backup; next: bilten backup create postgres --kind {kind}")
        elif age > within:
            said.append(f"the newest began {_hours(age)} ago, expected within {_hours(within)}")
        return dg.AssetCheckResult(
            passed=not said,
            description="\n".join(said) or None,
            metadata={
                "backups": len(manifests),
                "problems": len(found.problems),
                **({} if age is None else {"age_hours": round(age.total_seconds() / 3600, 2)}),
            },
        )

    return check


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.0f} hours"


full_listed = _listed_and_recent("full", ["full"])
# a full backup is as good as an incremental, and may be taken in its place
incremental_listed = _listed_and_recent("incremental", ["full", "incremental"])
