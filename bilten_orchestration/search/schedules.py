"""When search follows, is proven, tidied up and built anew."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.search import assets, checks
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:  # not among the names that dagster exports
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

SENSOR_SECONDS = 300
HELP = "bilten search status"
_BUILT = "select 1 from system.search_state where index_name is not null"

rebuild = dg.define_asset_job(
    "search_rebuild",
    selection=dg.AssetSelection.assets(assets.INDEX),
    owners=[face.DATA_PLATFORM],
    description="Builds a new index from one snapshot, proves it, and puts it in the place of the old one.",
    tags={face.COMMAND: "bilten search reindex", face.HELP: HELP},
)
changes = dg.define_asset_job(
    "search_changes",
    selection=dg.AssetSelection.assets(assets.CHANGES),
    owners=[face.DATA_PLATFORM],
    description="Brings what changed in PostgreSQL to the index that serves.",
    tags={face.COMMAND: "bilten search delta", face.HELP: HELP},
)
drift = dg.define_asset_job(
    "search_drift",
    selection=dg.AssetSelection.assets(assets.DRIFT),
    owners=[face.DATA_PLATFORM],
    description="Compares every document with PostgreSQL, and repairs what differs.",
    tags={face.COMMAND: "bilten search drift --all", face.HELP: HELP},
)
popularity = dg.define_asset_job(
    "search_popularity",
    selection=dg.AssetSelection.assets(assets.POPULARITY),
    owners=[face.DATA_PLATFORM],
    description="Counts the sales of the last 30 published days, by which search can sort.",
    tags={face.HELP: "the run's failure names the days that are missing"},
)
prune = dg.define_asset_job(
    "search_prune",
    selection=dg.AssetSelection.assets(assets.KEPT),
    owners=[face.DATA_PLATFORM],
    description="Removes indices that no rollback may want any more.",
    tags={face.COMMAND: "bilten search prune --execute", face.HELP: HELP},
)
definition = dg.define_asset_job(
    "search_definition",
    selection=dg.AssetSelection.assets(assets.DEFINITION),
    owners=[face.DATA_PLATFORM],
    description="Compares the definition with what serves; adds fields in place where that is enough.",
    tags={face.COMMAND: "bilten search mapping --execute", face.HELP: "bilten search mapping"},
)
promises = dg.define_asset_job(
    "search_promises",
    selection=dg.AssetSelection.checks(checks.search_lag),
    owners=[face.DATA_PLATFORM],
    description="Whether search has fallen behind, also where no run came to say so.",
    tags={face.HELP: HELP},
)
JOBS = [rebuild, changes, drift, popularity, prune, definition, promises]


def _schedule(name: str, job: "UnresolvedAssetJobDefinition", cron: str, why: str) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        owners=[face.DATA_PLATFORM],
        description=why,
    )


@dg.schedule(
    name="search_changes_every_5_minutes",
    job=changes,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="So that people find what is new. Waits for the first index, which nothing is missing from.",
)
def follow(
    context: dg.ScheduleEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    with platform.postgres("search schedule") as connection:
        there = connection.execute("select to_regclass('system.search_state')").fetchone()
        built = there and there[0] and connection.execute(_BUILT).fetchone()
    if not built:
        return dg.SkipReason("no index serves yet: bilten up, or bilten search reindex, builds the first one")
    return dg.RunRequest(run_key=f"search-changes-{context.scheduled_execution_time:%Y-%m-%dT%H:%M}")


SCHEDULES = [
    follow,
    _schedule(
        "search_rebuild_weekly", rebuild, "30 0 * * 0", "So that a rebuild is a habit, and not an emergency."
    ),
    _schedule("search_drift_daily", drift, "30 6 * * *", "After the night's work, before people come."),
    _schedule(
        "search_popularity_daily",
        popularity,
        "45 13 * * *",
        "After the build of 13:00, which closes a day.",
    ),
    _schedule("search_prune_daily", prune, "45 6 * * *", "An index is kept by days, and no shorter."),
    _schedule("search_promises_hourly", promises, "58 * * * *", "A run that never came says nothing."),
]


def run_request(index: str, wanted_hash: str, day: str, job: str) -> dg.RunRequest:
    """Keys are remembered for ever: by the index that is replaced, so that a definition may come back; by
    the day, so that a build that failed is tried again, once a day and not every few minutes."""
    return dg.RunRequest(job_name=job, run_key=f"{job}:{index}:{wanted_hash}:{day}")


@dg.sensor(
    name="search_definition_changed",
    jobs=[rebuild, definition],
    minimum_interval_seconds=SENSOR_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description=(
        "Builds the index anew, or adds fields in place, when the definition in the code is another one than"
        " that of the index that serves. The first one is built by `bilten up`."
    ),
)
def definition_changed(
    context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
) -> dg.RunRequest | dg.SkipReason:
    from bilten_orchestration.search import mapping
    from bilten_orchestration.search.definition import Step

    found = mapping.examine(platform.settings)
    if found.index is None:
        # a stack that has just begun has no rows yet either
        return dg.SkipReason("no index serves yet: bilten up, or bilten search reindex, builds the first one")
    if found.step is Step.NOTHING:
        return dg.SkipReason(f"{found.index} is as defined ({found.wanted_hash})")
    job = rebuild if found.step is Step.REBUILD else definition
    return run_request(found.index, found.wanted_hash, f"{datetime.now(UTC):%F}", job.name)
