"""When search follows, is proven, tidied up and built anew."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from datetime import UTC, datetime

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.search import assets, checks
from bilten_orchestration.stores.resources import Platform

SENSOR_SECONDS = 300
HELP = "bilten search status"
_BUILT = "select 1 from system.search_state where index_name is not null"

rebuild = face.job(
    "search_rebuild",
    dg.AssetSelection.assets(assets.INDEX),
    "Builds a new index from one snapshot, proves it, and puts it in the place of the old one.",
    by_hand="bilten search reindex",
    on_failure=HELP,
)
changes = face.job(
    "search_changes",
    dg.AssetSelection.assets(assets.CHANGES),
    "Brings what changed in PostgreSQL to the index that serves.",
    by_hand="bilten search delta",
    on_failure=HELP,
)
drift = face.job(
    "search_drift",
    dg.AssetSelection.assets(assets.DRIFT),
    "Compares every document with PostgreSQL, and repairs what differs.",
    by_hand="bilten search drift --all",
    on_failure=HELP,
)
popularity = face.job(
    "search_popularity",
    dg.AssetSelection.assets(assets.POPULARITY),
    "Counts the sales of the last 30 published days, by which search can sort.",
    on_failure="the run's failure names the days that are missing",
)
prune = face.job(
    "search_prune",
    dg.AssetSelection.assets(assets.KEPT),
    "Removes indices that no rollback may want any more.",
    by_hand="bilten search prune --execute",
    on_failure=HELP,
)
definition = face.job(
    "search_definition",
    dg.AssetSelection.assets(assets.DEFINITION),
    "Compares the definition with what serves; adds fields in place where that is enough.",
    by_hand="bilten search mapping --execute",
    on_failure="bilten search mapping",
)
promises = face.job(
    "search_promises",
    dg.AssetSelection.checks(checks.search_lag),
    "Whether search has fallen behind, also where no run came to say so.",
    on_failure=HELP,
)
JOBS = [rebuild, changes, drift, popularity, prune, definition, promises]


@dg.schedule(
    name="search_changes_every_5_minutes",
    job=changes,
    cron_schedule="*/5 * * * *",
    description="So that people find what is new. Waits for the first index, which nothing is missing from.",
    **face.SCHEDULED,
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
    face.schedule(
        "search_rebuild_weekly", rebuild, "30 0 * * 0", "So that a rebuild is a habit, and not an emergency."
    ),
    face.schedule("search_drift_daily", drift, "30 6 * * *", "After the night's work, before people come."),
    face.schedule(
        "search_popularity_daily",
        popularity,
        "45 13 * * *",
        "After the build of 13:00, which closes a day.",
    ),
    face.schedule("search_prune_daily", prune, "45 6 * * *", "An index is kept by days, and no shorter."),
    face.schedule("search_promises_hourly", promises, "58 * * * *", "A run that never came says nothing."),
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
