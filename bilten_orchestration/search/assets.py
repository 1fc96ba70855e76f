"""Assets of search: definition, popularity, the index built anew, what is brought after it, what is kept."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import operational_key
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:
    from bilten_orchestration.settings import Settings

GROUP = "search"
# One builds or removes at a time; batches of changes go on meanwhile, into whatever serves.
WRITE_POOL = "search_write"
FOLLOW_POOL = "search_follow"

JOINED = [
    operational_key(table)
    for table in ("events.events", "events.venues", "tickets.ticket_types", "users.organizations")
]
SALES = dg.AssetKey(["marts", "fct_event_sales_daily"])
DEFINITION = dg.AssetKey(["search", "definition"])
POPULARITY = dg.AssetKey(["search", "popularity"])
INDEX = dg.AssetKey(["search", "events_index"])
CHANGES = dg.AssetKey(["search", "changes"])
DRIFT = dg.AssetKey(["search", "drift"])
KEPT = dg.AssetKey(["search", "kept_indices"])

GATES = "gates"
NO_DRIFT = "no_drift"

TAGS = {"layer": "search"}
OWNERS = [face.DATA_PLATFORM]


def refuse_if_off(settings: "Settings") -> None:
    """Raises Refused: an asset that did nothing would look fresh."""
    from bilten_orchestration.errors import Refused
    from bilten_orchestration.stores.opensearch import off

    if not settings.opensearch.enabled:
        raise Refused(off(settings.opensearch))


@dg.asset(
    key=DEFINITION,
    metadata={face.NO_FRESHNESS: "compared when the definition changes; its check asks what serves"},
    description=(
        "The definition of the index in the code against the one that serves: nothing to do, fields that are"
        " added in place (each document is written again with them), or a rebuild, with every difference."
    ),
    kinds={"opensearch"},
    pool=FOLLOW_POOL,
    op_tags={face.COMMAND: "bilten search mapping --execute"},
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
)
def definition(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from bilten_orchestration.search import mapping
    from bilten_orchestration.search.definition import Step

    with face.step(context):
        refuse_if_off(platform.settings)
        report = mapping.examine(platform.settings)
        if report.step is Step.ADD:
            report = mapping.add(platform.settings, progress=context.log.info)
    return dg.MaterializeResult(
        metadata={
            "index": report.index or "none",
            "step": report.step.value,
            "changes": len(report.changes),
            "documents_written": report.documents,
            "live_hash": report.live_hash or "none",
            "wanted_hash": report.wanted_hash,
            "difference": dg.MetadataValue.md("```diff\n" + "\n".join(report.changes) + "\n```"),
        }
    )


@dg.asset(
    key=POPULARITY,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50)),
    deps=[SALES],
    description=(
        "Tickets sold per event in the last 30 published days, counted in ClickHouse and kept in PostgreSQL"
        " (system.event_popularity). What changed goes to search with the next changes."
    ),
    kinds={"clickhouse", "postgres"},
    pool="search_popularity",
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
)
def popularity(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from bilten_orchestration.search import popularity as engine

    with face.step(context):
        refuse_if_off(platform.settings)
        report = engine.count(platform.settings, progress=context.log.info)
    return dg.MaterializeResult(
        asset_key=POPULARITY,
        metadata={
            "first_day": str(report.first),
            "last_day": str(report.last),
            "events": report.events,
            "tickets_sold": report.tickets_sold,
            "changed": report.changed,
            "seconds": round(report.seconds, 3),
        },
    )


@dg.asset(
    key=INDEX,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9)),
    deps=[*JOINED, DEFINITION, POPULARITY],
    description=(
        "The index behind the alias events_index, built anew from one snapshot of PostgreSQL beside the one"
        " that serves, caught up, proven by every gate, and put in its place by one action. A refused one"
        " leaves the old one serving."
    ),
    kinds={"opensearch", "postgres"},
    pool=WRITE_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            GATES,
            asset=INDEX,
            description=(
                "Every gate of the newest build: dead letters, documents per status and organizer, content of"
                " every document, golden queries, size."
            ),
        )
    ],
    op_tags={face.COMMAND: "bilten search reindex"},
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
)
def events_index(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    from bilten_orchestration.search.rebuild import rebuild
    from bilten_orchestration.search.status import status

    with face.step(context):
        refuse_if_off(platform.settings)
        report = rebuild(platform.settings, run_id=context.run_id, progress=context.log.info)
        history = status(platform.settings)
    yield dg.AssetCheckResult(
        asset_key=INDEX,
        check_name=GATES,
        passed=not report.problems,
        description="\n".join(map(str, report.problems[: face.TOLD_PROBLEMS])) or None,
        metadata={
            "index": report.index,
            "gates": len(report.verdicts),
            "refused_by": sum(not verdict.ok for verdict in report.verdicts),
            **{f"{verdict.gate}_seconds": round(verdict.seconds, 3) for verdict in report.verdicts},
            "verdicts": face.records(
                [
                    {
                        "gate": verdict.gate,
                        "passed": verdict.ok,
                        "expected": verdict.expected,
                        "found": verdict.found,
                        "sample": "; ".join(verdict.sample),
                    }
                    for verdict in report.verdicts
                ]
            ),
        },
    )
    if not report.swapped:
        raise face.failure(report.problems)
    seconds = report.loaded.seconds
    yield dg.MaterializeResult(
        asset_key=INDEX,
        metadata={
            "index": report.index,
            "before": report.before or "none",
            "documents": report.documents,
            "bytes": report.bytes,
            "dead_letters": report.dead_letters,
            "lag_seconds": round(report.lag_seconds, 3),
            "loaded_documents": report.loaded.documents,
            "loaded_bytes": report.loaded.bytes,
            # of a build that only went on with one there is no rate
            **({"documents_per_second": round(report.loaded.documents / seconds, 1)} if seconds else {}),
            "refusals": report.loaded.refusals,
            "batches": report.batches,
            "changes": report.changes,
            "resumed": int(report.resumed),
            "seconds": round(report.seconds, 3),
            **{
                f"phase/{name.replace(' ', '_')}_seconds": round(value, 3)
                for name, value in report.phases.items()
            },
            "swaps": history.swaps_recorded,
            "alias_history": face.records([asdict(swap) for swap in history.swaps]),
        },
    )


@dg.asset(
    key=CHANGES,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1)),
    deps=[INDEX, *JOINED, POPULARITY],
    description=(
        "One batch: every event that changed since the last one, by the marks of every table that a document"
        " joins, into the index that serves. Deleted and unpublished ones leave it."
    ),
    kinds={"opensearch", "postgres"},
    pool=FOLLOW_POOL,
    op_tags={face.COMMAND: "bilten search delta"},
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
)
def changes(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from bilten_orchestration.search.delta import delta

    with face.step(context):
        refuse_if_off(platform.settings)
        report = delta(platform.settings, run_id=context.run_id, progress=context.log.info)
    for problem in report.problems:
        context.log.warning(str(problem))
    applied = report.applied
    return dg.MaterializeResult(
        metadata={
            "index": applied.index,
            "batch": applied.batch,
            "as_of": dg.MetadataValue.timestamp(applied.as_of),
            "documents": applied.operations,
            "bytes": applied.bytes,
            "superseded": applied.superseded,
            "dead_letters": report.dead_letters,
            "lag_seconds": round(applied.lag_seconds, 3),
            "seconds": round(applied.seconds, 3),
            "documents_per_second": round(applied.operations / applied.seconds, 1)
            if applied.seconds
            else 0.0,
        }
    )


@dg.asset(
    key=DRIFT,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50)),
    deps=[CHANGES],
    description=(
        "Every document of the index that serves against PostgreSQL, by hash per range of keys; what differs"
        " is written again. Nothing should: each difference is a fault somewhere."
    ),
    kinds={"opensearch", "postgres"},
    pool=FOLLOW_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            NO_DRIFT,
            asset=DRIFT,
            description="The index held what PostgreSQL holds, before anything was repaired.",
        )
    ],
    op_tags={face.COMMAND: "bilten search drift --all"},
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
)
def drift(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    from bilten_orchestration.search import drift as engine

    with face.step(context):
        refuse_if_off(platform.settings)
        report = engine.drift(platform.settings, whole=True, run_id=context.run_id, progress=context.log.info)
    found = report.compared
    numbers = {
        "documents": found.documents_opensearch,
        "expected_documents": found.documents_postgres,
        "missing": found.missing,
        "extra": found.extra,
        "changed": found.changed,
        "repaired": report.repaired,
        "remaining": report.remaining,
    }
    yield dg.MaterializeResult(
        asset_key=DRIFT,
        metadata={
            **numbers,
            "index": report.index,
            "batch": report.batch,
            "ranges": found.ranges,
            "seconds": round(report.seconds, 3),
        },
    )
    yield dg.AssetCheckResult(
        asset_key=DRIFT,
        check_name=NO_DRIFT,
        passed=not report.problems,
        # what was repaired is over, and still somebody writes to the index who should not
        severity=dg.AssetCheckSeverity.ERROR if report.remaining else dg.AssetCheckSeverity.WARN,
        description="\n".join(map(str, report.problems)) or None,
        metadata={
            **numbers,
            "sample": face.records([asdict(difference) for difference in report.sample]),
        },
    )


@dg.asset(
    key=KEPT,
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=50)),
    deps=[INDEX],
    description=(
        "Indices beside the one that serves: kept for a rollback, or refused and kept to be looked at;"
        " removed after their days."
    ),
    kinds={"opensearch"},
    pool=WRITE_POOL,
    op_tags={face.COMMAND: "bilten search prune --execute"},
    group_name=GROUP,
    owners=OWNERS,
    tags=TAGS,
)
def kept_indices(
    context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
) -> dg.MaterializeResult[None]:
    from bilten_orchestration.search.prune import prune

    with face.step(context):
        refuse_if_off(platform.settings)
        report = prune(platform.settings, execute=True, run_id=context.run_id, progress=context.log.info)
    kept = [each for each in report.actions if each.index not in report.removed]
    return dg.MaterializeResult(
        asset_key=KEPT,
        metadata={
            "kept": len(kept),
            "kept_bytes": sum(each.bytes or 0 for each in kept),
            "removed": len(report.removed),
            "indices": face.records([asdict(each) for each in report.actions]),
        },
    )


ASSETS = [definition, popularity, events_index, changes, drift, kept_indices]
