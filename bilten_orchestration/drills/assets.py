"""Assets of the drills: one per store, a partition per day, materialized by drilling."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.backups import assets as backups
from bilten_orchestration.backups.plan import PLANNED
from bilten_orchestration.drills import plan
from bilten_orchestration.search import definition
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:
    from bilten_orchestration.drills.report import DrillReport
    from bilten_orchestration.errors import Problem
    from bilten_orchestration.settings import DrillSettings

GROUP = "drills"
POOL = "drill"
Number = dict[str, str | int | float | dg.MetadataValue]


def key(store: str) -> dg.AssetKey:
    return dg.AssetKey(["drills", store])


def partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Days of UTC, today's included: a drill proves what there is on its day."""
    return dg.DailyPartitionsDefinition(start_date=settings.drills.first_day, timezone="UTC", end_offset=1)


def upstream(store: plan.Drilled) -> list[dg.AssetKey]:
    """Every kind of backup that it begins with, the WAL, and the second bucket, from which one way begins; of
    search the index that it is compared with, and no dump."""
    source = plan.comes_from(store)
    of_store = [backups.key(source, planned.kind) for planned in PLANNED if planned.store == source]
    if store == "search":
        whole = [each for each in of_store if each != backups.key("postgres", "logical")]
        return [*whole, backups.key("postgres", "wal"), dg.AssetKey(["search", definition.ALIAS])]
    if store != "postgres":
        return of_store
    return [*of_store, backups.key("postgres", "wal"), backups.copies.key]


def build_asset(store: plan.Drilled, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    ways = "; ".join(f"{way.name}{'' if way.daily else ' (in turn)'}" for way in plan.ways_of(store))

    @dg.asset(
        key=key(store),
        deps=upstream(store),
        group_name=GROUP,
        description=(
            f"Proof that {store} comes back: into a scratch place, proven, timed and attested in the"
            f" repository. Ways: {ways}."
        ),
        owners=[face.DATA_PLATFORM],
        kinds={"opensearch" if store == "search" else store, "s3"},
        tags={"layer": "drill"},
        partitions_def=days,
        # drills measure: two at once would time each other
        pool=POOL,
        op_tags={face.COMMAND: f"bilten drill run {store}"},
    )
    def drill(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetObservation]:
        from datetime import date

        from bilten_orchestration.drills.run import run

        with face.step(context):
            reports = run(
                platform.settings,
                store,
                day=date.fromisoformat(context.partition_key),
                run=context.run_id,
                progress=context.log.info,
            )
        found = metadata(reports, platform.settings.drills)
        if problems := failures(reports):
            # no materialization: nothing was proven; what was measured is plotted all the same
            yield dg.AssetObservation(key(store), partition=context.partition_key, metadata=found)
            raise face.failure(problems)
        yield dg.MaterializeResult(metadata=found)

    return drill


def failures(reports: "Sequence[DrillReport]") -> "list[Problem]":
    """Of all that failed, each with the way and the phase that it is of."""
    from dataclasses import replace

    return [
        replace(problem, what=f"{report.way} failed in {report.failed_phase}: {problem.what}")
        for report in reports
        for problem in report.problems
    ]


def metadata(reports: "Sequence[DrillReport]", settings: "DrillSettings") -> Number:
    """Numbers of the daily way under plain names, those of another way with its name before them: a plot is
    of one name, and ways take turns."""
    from bilten_orchestration.drills.markdown import page

    found: Number = {"page": dg.MetadataValue.md(page(reports, settings))}
    daily = {way.name for report in reports for way in plan.ways_of(report.store) if way.daily}
    for report in reports:
        before = "" if report.way in daily else f"{report.way}/"
        found |= {f"{before}{name}": value for name, value in _numbers(report, settings).items()}
    return found


def _numbers(report: "DrillReport", settings: "DrillSettings") -> Mapping[str, str | int | float]:
    from bilten_orchestration.drills.projection import projection

    projected = projection(report, settings.production_bytes(report.store))
    found: dict[str, str | int | float | None] = {
        "drill": report.id,
        "passed": int(report.ok),
        "rpo_seconds": report.rpo_seconds,
        "rto_seconds": report.rto_seconds,
        # a bound is no point of the same plot
        "projected_rto_seconds": None if projected is None or projected.at_most else projected.seconds,
        "projected_rto_at_most_seconds": projected.seconds if projected and projected.at_most else None,
        "restored_bytes": report.restored_bytes,
        "stored_bytes": report.stored_bytes,
        "restored_megabytes_per_second": (rate := report.restored_bytes_per_second) and rate / 1e6,
        "proofs": len(report.proofs),
        "proof_seconds": sum(proof.seconds for proof in report.proofs),
        "warnings": len(report.warnings),
        "backups": ", ".join(report.backups),
        **{f"phase/{name.replace(' ', '_')}_seconds": value for name, value in report.phases.items()},
        **{f"figure/{name}": value for name, value in report.figures.items()},
    }
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in found.items()
        if value is not None
    }
